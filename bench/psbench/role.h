// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// `psbench role`: one process of a job that is started by hand or by a launcher, on any host. Every
// worker is given the same model and number of rounds, or the same data to train on.

#include <string>
#include <vector>

#include "bench/psbench/push_pull.h"
#include "bench/psbench/train/train.h"

namespace penstock::psbench {

struct RoleOptions {
  std::string role;       // scheduler, server or worker
  std::string scheduler;  // host:port; servers and workers
  std::string listen = "127.0.0.1:0";
  std::vector<std::string> rails;  // verbs: devices; empty: all
  std::int64_t rank = -1;          // −1: the scheduler gives one
  std::uint32_t servers = 1;       // the scheduler's
  std::uint32_t workers = 1;       // the scheduler's
  bool insecure = false;
  PushPullOptions push_pull;  // model, dtype, rounds, and the local options that apply
  TrainOptions train;         // used when it names data; its local options are not
};

CLI::App* add_role_command(CLI::App& app, RoleOptions& options);

// Runs until the job is over; returns an ExitCode.
int run_role(const RoleOptions& options);

}  // namespace penstock::psbench

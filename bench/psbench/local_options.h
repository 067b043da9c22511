// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Options that every kind of local run takes.

#include <string>

#include "bench/psbench/session.h"

namespace CLI {
class App;
}

namespace penstock::psbench {

struct LocalOptions {
  std::string local = "1x1";
  std::string transport = "auto";
  DataOptions data;
  std::string slice = "256K";
  std::string optimizer = "sgd";
  std::string secret_file;
  std::string server_memory = "host";
  double learning_rate = 0;  // 0: the optimizer's usual one
  std::uint32_t lanes = 1;
  std::uint16_t port = 0;
  double timeout_s = 60;
  double detect_ms = 3000;
  bool verbose = false;
};

void add_data_options(CLI::App& command, DataOptions& options);
void add_local_options(CLI::App& command, LocalOptions& options);

ServerMemory server_memory_of(const LocalOptions& options);
// Checked and turned into a job and an optimizer. kInvalidArgument or kNotFound in one sentence.
Result<LocalJob> make_job(const LocalOptions& options);
Result<OptimizerSpec> make_optimizer(const LocalOptions& options);

}  // namespace penstock::psbench

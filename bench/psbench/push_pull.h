// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The main command: push_pull of a model or of a sweep of sizes on this host, with a table and a
// verdict.

#include <string>

#include "bench/psbench/local_options.h"
#include "bench/psbench/tensor_set.h"

namespace penstock::psbench {

struct PushPullOptions {
  LocalOptions local;
  std::string model = "bert-large";
  std::string sizes;  // not empty: a sweep instead of the model
  std::string dtype = "fp32";
  std::string codec = "none";
  std::uint64_t rounds = 0;
  double seconds = 2;
  std::uint64_t warm_up = 3;
  bool check = true;
  bool audit = false;
  bool ceiling = true;
  double min_busbw = 0;  // GB/s
  std::string json, csv;
};

// --dtype and --codec. kInvalidArgument naming what is unknown or does not go together.
Result<TensorSetOptions> make_tensors(const PushPullOptions& options);

void add_push_pull_options(CLI::App& app, PushPullOptions& options);

// Measures and prints; returns an ExitCode.
int run_push_pull(const PushPullOptions& options);

}  // namespace penstock::psbench

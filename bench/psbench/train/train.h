// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// `psbench train`: a real model on a real data set, data-parallel over a local job.

#include <string>

#include "bench/psbench/local_options.h"

namespace penstock::psbench {

struct TrainOptions {
  LocalOptions local;
  std::string data;
  std::uint64_t seed = 1;
  std::uint32_t epochs = 20;
  std::uint32_t hidden = 64;
  std::uint32_t batch = 64;     // rows of one step, over all workers
  std::uint32_t held_out = 20;  // percent
  std::string save;
};

// All but the local ones.
void add_training_options(CLI::App& command, TrainOptions& options);

CLI::App* add_train_command(CLI::App& app, TrainOptions& options);

// Trains and prints loss and held-out accuracy per epoch; returns an ExitCode.
int run_train(const TrainOptions& options);

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/train.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/psbench/exit_code.h"
#include "bench/psbench/local_cluster.h"
#include "bench/psbench/train/training.h"

namespace penstock::psbench {
namespace {

Status train_all(const TrainOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const LocalJob job, make_job(options.local));
  PENSTOCK_ASSIGN_OR_RETURN(const OptimizerSpec optimizer, make_optimizer(options.local));
  PENSTOCK_ASSIGN_OR_RETURN(const Dataset data, load_data(options));
  if (options.batch < job.workers)
    return {Code::kInvalidArgument,
            fmt::format("--batch {} leaves some of {} workers without a row", options.batch,
                        job.workers)};
  fmt::print("{} rows of {} features, {} classes; {} servers, {} workers, {}, {}\n", data.rows(),
             data.features, data.classes, job.servers, job.workers, describe_transport(job),
             options.local.optimizer);
  PENSTOCK_ASSIGN_OR_RETURN(const SharedMemory memory, SharedMemory::create(sizeof(SharedPage)));
  SharedPage& page = *memory.construct<SharedPage>();
  const TimeNs limit_ns = SystemClock().now_ns() + 3600 * kSecond;
  PENSTOCK_ASSIGN_OR_RETURN(
      const ClusterReport report,
      run_local(
          job, page, [&] { return make_training(options, optimizer, data, page); }, [] {},
          limit_ns));
  return first_failure(report);
}

}  // namespace

void add_training_options(CLI::App& command, TrainOptions& options) {
  command.add_option("--data", options.data, "CSV file: features, then the class");
  command.add_option("--seed", options.seed, "of initial values, split and order")
      ->capture_default_str();
  command.add_option("--epochs", options.epochs, "passes over the data")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command.add_option("--hidden", options.hidden, "units of the hidden layer")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command.add_option("--batch", options.batch, "rows of a step, over all workers")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command.add_option("--held-out", options.held_out, "percent of the rows kept for accuracy")
      ->check(CLI::Range(1, 90))
      ->capture_default_str();
  command.add_option("--save", options.save, "write the parameters as safetensors");
}

CLI::App* add_train_command(CLI::App& app, TrainOptions& options) {
  options.local.optimizer = "adam";
  CLI::App* command =
      app.add_subcommand("train", "train a classifier on a CSV file, data-parallel");
  add_local_options(*command, options.local);
  add_training_options(*command, options);
  command->get_option("--data")->required();
  return command;
}

int run_train(const TrainOptions& options) {
  const Status status = train_all(options);
  if (!status.ok()) fmt::print(stderr, "psbench: {}\n", status.to_string());
  return exit_code_of(status.code());
}

}  // namespace penstock::psbench

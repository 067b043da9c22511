// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// psbench: measures Penstock on this host. Exit codes are in exit_code.h.

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <csignal>

#include "bench/psbench/build.h"
#include "bench/psbench/environment.h"
#include "bench/psbench/exit_code.h"
#include "bench/psbench/kernels.h"
#include "bench/psbench/push_pull.h"
#include "bench/psbench/raw.h"
#include "bench/psbench/role.h"
#include "bench/psbench/train/train.h"

int main(int argc, char** argv) {
  using namespace penstock::psbench;
  CLI::App app(
      "Measures Penstock on this host: workers push a model's gradients to servers and pull the "
      "parameters back. GB are 10^9 bytes; sizes K, M, G are binary. Exit codes: 0 good, 2 wrong "
      "data, 3 below --min-busbw, 4 time-out, 5 environment, 64 usage.",
      "psbench");
  app.set_version_flag("--version", fmt::format("psbench {} ({})", kVersion, kCommit));
  app.require_subcommand(0, 1);
  PushPullOptions push_pull;
  add_push_pull_options(app, push_pull);
  RawOptions raw;
  CLI::App* raw_command = add_raw_command(app, raw);
  KernelsOptions kernels;
  CLI::App* kernels_command = add_kernels_command(app, kernels);
  TrainOptions train;
  CLI::App* train_command = add_train_command(app, train);
  RoleOptions role;
  CLI::App* role_command = add_role_command(app, role);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitGood : kExitUsage;
  }
  // The table goes to standard output; what the roles have to say does not belong in it.
  spdlog::set_default_logger(spdlog::stderr_logger_mt("penstock"));
  const bool verbose =
      push_pull.local.verbose || train.local.verbose || role.push_pull.local.verbose;
  spdlog::set_level(verbose ? spdlog::level::debug : spdlog::level::warn);
  // The kernel raises it when it encrypts for a peer that is gone.
  if (push_pull.local.data.kernel_tls || train.local.data.kernel_tls || raw.data.kernel_tls ||
      role.push_pull.local.data.kernel_tls)
    std::signal(SIGPIPE, SIG_IGN);
  if (train_command->parsed()) return run_train(train);
  if (role_command->parsed()) return run_role(role);
  fmt::print("{}", describe(read_environment()));
  if (raw_command->parsed()) return run_raw(raw);
  if (kernels_command->parsed()) return run_kernels(kernels);
  return run_push_pull(push_pull);
}

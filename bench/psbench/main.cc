// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// psbench: measures Penstock on this host. Exit codes are in exit_code.h.

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/psbench/build.h"
#include "bench/psbench/environment.h"
#include "bench/psbench/exit_code.h"
#include "bench/psbench/raw.h"

int main(int argc, char** argv) {
  using namespace penstock::psbench;
  CLI::App app("Measures Penstock on this host. GB are 10^9 bytes; sizes K, M, G are binary.",
               "psbench");
  app.set_version_flag("--version", fmt::format("psbench {} ({})", kVersion, kCommit));
  app.require_subcommand(1);
  RawOptions raw;
  CLI::App* raw_command = add_raw_command(app, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitGood : kExitUsage;
  }
  fmt::print("{}", describe(read_environment()));
  if (raw_command->parsed()) return run_raw(raw);
  return kExitUsage;
}

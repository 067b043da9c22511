// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// penstock: the program for people who run Penstock. Exit codes are in doctor.h.

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>

#include "bindings/cli/doctor.h"
#include "transport/providers.h"

int main(int argc, char** argv) {
  using namespace penstock::cli;
  CLI::App app("Looks after Penstock on this host. Exit codes: 0 good, 5 environment, 64 usage.",
               "penstock");
  app.set_version_flag("--version", "penstock " PENSTOCK_VERSION);
  app.require_subcommand(1);

  DoctorOptions doctor;
  CLI::App* doctor_command = app.add_subcommand(
      "doctor", "What this host has, and how to fix what is missing. Changes nothing.");
  std::vector<std::string> transports = penstock::provider_names();
  transports.insert(transports.begin(), "any");
  doctor_command->add_flag("--json", doctor.json, "for programs");
  doctor_command
      ->add_option("--transport", doctor.transport,
                   "end with 5 unless this one works; any: one that leaves the process")
      ->check(CLI::IsMember(transports))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitGood : kExitUsage;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("penstock"));  // the report goes to stdout
  spdlog::set_level(spdlog::level::warn);
  return run_doctor(doctor);
}

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// penstock: the program for people who run Penstock. Exit codes are in doctor.h.

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>

#include "bindings/cli/doctor.h"
#include "bindings/launch/launch.h"
#include "transport/providers.h"

namespace {

CLI::App* add_launch(CLI::App& app, penstock::launch::LaunchOptions& options, bool& local) {
  using penstock::launch::kMaxProcesses;
  CLI::App* command = app.add_subcommand(
      "launch",
      "One program as every role of a job on this host (DMLC_* variables say which). Ends with 0 "
      "when all did, 1 when one did not, 4 when it took too long.");
  command->add_flag("--local", local, "on this host: the only place there is")->required();
  CLI::Option* workers = command->add_option("--workers", options.workers, "worker processes")
                             ->check(CLI::Range(1U, kMaxProcesses))
                             ->capture_default_str();
  CLI::Option* servers = command->add_option("--servers", options.servers, "server processes")
                             ->check(CLI::Range(0U, kMaxProcesses))
                             ->capture_default_str();
  command->add_option("--joint", options.joint, "processes that are both, instead")
      ->check(CLI::Range(1U, kMaxProcesses))
      ->excludes(workers)
      ->excludes(servers);
  command->add_option("--timeout", options.timeout_s, "seconds for the whole job")
      ->check(CLI::Range(0.1, 1e7))
      ->capture_default_str();
  command->add_option("--grace", options.grace_s, "seconds the others have once one has failed")
      ->check(CLI::Range(0.0, 1e7))
      ->capture_default_str();
  command->add_option("program", options.program, "the program and its arguments, behind --")
      ->required();
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace penstock::cli;
  CLI::App app(
      "Looks after Penstock on this host and starts jobs on it. Exit codes: 0 good, 5 environment, "
      "64 usage.",
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
  penstock::launch::LaunchOptions launch;
  bool local = false;
  const CLI::App* launch_command = add_launch(app, launch, local);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitGood : kExitUsage;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("penstock"));  // the report goes to stdout
  spdlog::set_level(spdlog::level::warn);
  if (launch_command->parsed()) return penstock::launch::run_local(launch);
  return run_doctor(doctor);
}

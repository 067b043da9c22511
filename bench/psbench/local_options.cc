// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/local_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/psbench/sizes.h"
#include "engine/runtime/topology.h"
#include "kernels/optimizer_text.h"

namespace penstock::psbench {

void add_data_options(CLI::App& command, DataOptions& options) {
  CLI::Option* const encrypt = command.add_flag(
      "--encrypt", options.encrypt, "encrypt data that leaves the host, on every process or none");
  command.add_flag("--ktls", options.kernel_tls, "let the kernel encrypt, if it can (tcp)")
      ->needs(encrypt);
  command
      .add_flag("--zerocopy", options.zerocopy,
                "MSG_ZEROCOPY where the kernel does not copy after all (tcp)")
      ->excludes(encrypt);
}

void add_local_options(CLI::App& command, LocalOptions& options) {
  command.add_option("--local", options.local, "SERVERSxWORKERS, all on this host")
      ->capture_default_str();
  command
      .add_option("--transport", options.transport,
                  "auto, shm, verbs, ucx, tcp, or loopback (one process)")
      ->capture_default_str();
  add_data_options(command, options.data);
  command
      .add_option("--server-memory", options.server_memory,
                  "where servers keep parameters, state and slots: host, or cuda (GPU 0)")
      ->check(CLI::IsMember({"host", "cuda"}))
      ->capture_default_str();
  command
      .add_option("--optimizer", options.optimizer,
                  "a name, or with numbers as adam:beta2=0.99,epsilon_form=hat")
      ->capture_default_str();
  command.add_option("--learning-rate", options.learning_rate, "0: the optimizer's usual one")
      ->capture_default_str();
  command.add_option("--lanes", options.lanes, "threads per server and per worker")
      ->capture_default_str();
  command.add_option("--slice", options.slice, "bytes of one slice")->capture_default_str();
  command.add_option("--port", options.port, "of the scheduler; 0 takes a free one")
      ->capture_default_str();
  command.add_option("--secret-file", options.secret_file,
                     "the job secret; without it a random one is made for this run");
  command.add_option("--timeout", options.timeout_s, "seconds that joining or a round may take")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  command.add_option("--detect", options.detect_ms, "milliseconds of silence that mean death")
      ->check(CLI::Range(50.0, 600000.0))
      ->capture_default_str();
  command.add_flag("--verbose", options.verbose, "log what the roles do");
}

ServerMemory server_memory_of(const LocalOptions& options) {
  return options.server_memory == "cuda" ? ServerMemory::kCuda : ServerMemory::kHost;
}

Result<LocalJob> make_job(const LocalOptions& options) {
  LocalJob job;
  PENSTOCK_RETURN_IF_ERROR(parse_local(options.local, job));
  PENSTOCK_ASSIGN_OR_RETURN(job.slice_bytes, parse_size(options.slice));
  job.lanes = options.lanes;
  job.transport = options.transport;
  job.data = options.data;
  job.server_memory = server_memory_of(options);
  job.port = options.port;
  job.secret_file = options.secret_file;
  job.timeout_ns = static_cast<TimeNs>(options.timeout_s * static_cast<double>(kSecond));
  job.detect_ns = static_cast<TimeNs>(options.detect_ms * static_cast<double>(kMillisecond));
  PENSTOCK_RETURN_IF_ERROR(validate(job));
  PENSTOCK_ASSIGN_OR_RETURN(const auto topology, Topology::load());
  const std::size_t lanes = std::size_t{job.servers + job.workers} * job.lanes;
  job.pin = lanes <= topology->cpus().size();
  if (!job.pin)
    fmt::print("note: {} lanes on {} processors: lanes are not pinned\n", lanes,
               topology->cpus().size());
  return job;
}

Result<OptimizerSpec> make_optimizer(const LocalOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(OptimizerSpec spec, parse_optimizer_spec(options.optimizer));
  if (options.learning_rate != 0) spec.learning_rate = options.learning_rate;
  PENSTOCK_RETURN_IF_ERROR(validate(spec));
  return spec;
}

}  // namespace penstock::psbench

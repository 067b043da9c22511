// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/raw.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/psbench/ceiling_memory.h"
#include "bench/psbench/ceiling_tcp.h"
#include "bench/psbench/environment.h"
#include "bench/psbench/exit_code.h"
#include "bench/psbench/local_options.h"
#include "bench/psbench/raw_transport.h"
#include "bench/psbench/sizes.h"
#include "bench/psbench/tool.h"

namespace penstock::psbench {
namespace {

Status print_memory(unsigned threads, std::uint64_t bytes) {
  PENSTOCK_ASSIGN_OR_RETURN(const MemoryCeiling memory, measure_memory_ceiling(threads, bytes));
  fmt::print("memory, {} thread{}: read {:.2f} GB/s, copy {:.2f} GB/s\n", threads,
             threads == 1 ? " " : "s", memory.read_GBps, memory.copy_GBps);
  return {};
}

Status print_tcp(const RawOptions& options, std::uint64_t bytes, bool two_way) {
  PENSTOCK_ASSIGN_OR_RETURN(const TcpCeiling tcp,
                            measure_tcp_ceiling({.streams = options.streams,
                                                 .bytes_per_round = bytes,
                                                 .rounds = options.rounds,
                                                 .two_way = two_way,
                                                 .deadline_ns = options.seconds * kSecond}));
  fmt::print(
      "tcp, {} stream{}, {} way: {:.2f} GB/s per direction, {:.2f} cpu s/GB; round p50 {:.0f} us, "
      "min {:.0f}, max {:.0f}\n",
      options.streams, options.streams == 1 ? "" : "s", two_way ? "both" : "one", tcp.GBps,
      tcp.cpu_s_per_GB, tcp.round_us.p50, tcp.round_us.min, tcp.round_us.max);
  return {};
}

Status measure(const RawOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t bytes, parse_size(options.bytes));
  fmt::print("{} bytes a round, median of {} rounds after one that is not counted\n", bytes,
             options.rounds);
  // Processes before threads: see ChildProcess::start.
  PENSTOCK_RETURN_IF_ERROR(print_tcp(options, bytes, false));
  PENSTOCK_RETURN_IF_ERROR(print_tcp(options, bytes, true));
  if (const Result<double> iperf3 = iperf3_GBps(options.streams); iperf3.ok())
    fmt::print("iperf3, {} stream{}, one way: {:.2f} GB/s\n", options.streams,
               options.streams == 1 ? "" : "s", *iperf3);
  else
    fmt::print("iperf3: {}\n", iperf3.status().what());
  const unsigned cores = read_environment().cores_allowed;
  PENSTOCK_RETURN_IF_ERROR(print_memory(1, bytes));
  return cores > 1 ? print_memory(cores, bytes) : Status();
}

}  // namespace

CLI::App* add_raw_command(CLI::App& app, RawOptions& options) {
  CLI::App* command = app.add_subcommand(
      "raw", "one transport without the engine, or the ceilings: raw TCP streams and memory");
  command->add_option("--transport", options.transport,
                      "measure auto, shm, verbs, ucx or tcp; without it, the ceilings");
  add_data_options(*command, options.data);
  command->add_option("--op", options.operations, "write, write-imm, read, send")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--mode", options.modes, "bw: bandwidth, lat: latency")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--sizes", options.sizes, "bytes of a message, as 8,4K or 4K:1M:x4")
      ->capture_default_str();
  command->add_option("--messages", options.messages, "per size; 0 goes by the size")
      ->capture_default_str();
  command->add_option("--depth", options.depth, "posts outstanding")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--bidirectional", options.two_way, "both sides post at once");
  command->add_flag("--peers", options.peers,
                    "run ib_*_bw, ib_*_lat, ucx_perftest or iperf3 beside it, if installed");
  command->add_option("--json", options.json,
                      "with --transport: write the results to this file, with every counter");
  command->add_option("--bytes", options.bytes, "bytes a round, each way")->capture_default_str();
  command->add_option("--streams", options.streams, "TCP connections")->capture_default_str();
  command->add_option("--rounds", options.rounds, "rounds measured")->capture_default_str();
  command->add_option("--seconds", options.seconds, "deadline of one measurement")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  return command;
}

int run_raw(const RawOptions& options) {
  const Status status = options.transport.empty() ? measure(options) : print_transport(options);
  if (!status.ok()) fmt::print(stderr, "psbench: {}\n", status.to_string());
  return exit_code_of(status.code());
}

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/raw_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bench/psbench/json.h"
#include "bench/psbench/raw_pair.h"
#include "bench/psbench/report.h"
#include "bench/psbench/sizes.h"
#include "bench/psbench/tool.h"
#include "transport/control/secret.h"

namespace penstock::psbench {
namespace {

using Json = nlohmann::ordered_json;

// Field names are stable within it.
constexpr const char* kRawJsonSchema = "penstock-psbench-raw-1";

constexpr std::array kOperations{RawOperation::kWrite, RawOperation::kWriteImm, RawOperation::kRead,
                                 RawOperation::kSend};

Result<RawOperation> parse_operation(const std::string& name) {
  for (const RawOperation operation : kOperations)
    if (name == operation_name(operation)) return operation;
  return Status(Code::kInvalidArgument, fmt::format("no operation is called '{}'", name))
      .with_hint("known: write, write-imm, read, send");
}

std::uint64_t default_messages(std::uint64_t bytes, bool latency) {
  if (latency) return bytes <= 65536 ? 2000 : 200;
  return std::clamp<std::uint64_t>((std::uint64_t{256} << 20) / bytes, 200, 20'000);
}

// perftest has no write with immediate in its older versions: a plain write is the same on the
// wire.
std::string perftest_operation(RawOperation operation) {
  return operation == RawOperation::kRead   ? "read"
         : operation == RawOperation::kSend ? "send"
                                            : "write";
}

Result<double> peer_GBps(const RawTask& task) {
  if (task.transport == "verbs")
    return perftest_GBps(perftest_operation(task.operation), task.bytes, task.messages,
                         task.two_way);
  if (task.transport == "ucx") return ucx_perftest_GBps(task.bytes, task.messages);
  if (task.transport == "tcp") {
    static const Result<double> iperf3 = iperf3_GBps(1);  // it knows no message size: once will do
    return iperf3;
  }
  return Status(Code::kNotFound, "no other program measures " + task.transport);
}

Result<double> peer_latency_us(const RawTask& task) {
  if (task.transport == "verbs")
    return perftest_latency_us(perftest_operation(task.operation), task.bytes, task.messages);
  if (task.transport == "ucx") return ucx_perftest_latency_us(task.bytes, task.messages);
  return Status(Code::kNotFound, "no other program measures " + task.transport);
}

// "  12.34  0.98" or the reason why there is nothing to compare with.
std::string compared(const Result<double>& peer, double ratio) {
  if (!peer.ok()) return fmt::format("  ({})", peer.status().what());
  return fmt::format(" {:>13.2f} {:>8.2f}", peer.value(), ratio);
}

Json row_of(const RawTask& task, const RawFigures& figures) {
  RailCounters counters;
  add(counters, task.transport, figures.counters);
  Json row = {{"transport", task.transport},
              {"encrypted", task.data.encrypt},
              {"operation", operation_name(task.operation)},
              {"bytes", task.bytes},
              {"messages", task.messages}};
  if (task.latency) {
    const Summary& us = figures.latency_us;
    row["latency_us"] = {{"min", us.min}, {"p50", us.p50}, {"p99", us.p99}, {"max", us.max}};
  } else {
    row["both_ways"] = task.two_way;
    row["outstanding"] = task.depth;
    row["peak_GBps"] = figures.peak_GBps;
    row["average_GBps"] = figures.average_GBps;
    row["cpu_s_per_GB"] = figures.cpu_s_per_GB;
  }
  row["messages_per_second"] = figures.messages_per_second;
  row["counters"] = rails_json(counters);
  return row;
}

class Printer {
 public:
  Printer(const RawOptions& options, RawOperation operation, Json& rows)
      : options_(options), operation_(operation), rows_(rows) {}

  Status bandwidth(std::span<const std::uint64_t> sizes) {
    fmt::print("\n{} {}, bandwidth, {}, {} outstanding\n", options_.transport,
               operation_name(operation_), options_.two_way ? "both ways" : "one way",
               options_.depth);
    fmt::print(" {:>9} {:>11} {:>16} {:>19} {:>14} {:>12}{}\n", "#bytes", "#messages",
               "BW peak[Gb/sec]", "BW average[Gb/sec]", "MsgRate[Mpps]", "cpu[s/GB]",
               options_.peers ? "  peer[Gb/sec]  of peer" : "");
    for (const std::uint64_t bytes : sizes) {
      const RawTask task = make_task(bytes, false);
      PENSTOCK_ASSIGN_OR_RETURN(const RawFigures figures, measure_raw(task));
      const double gbits = figures.average_GBps * 8;
      fmt::print(" {:>9} {:>11} {:>16.2f} {:>19.2f} {:>14.4f} {:>12.2f}", bytes, task.messages,
                 figures.peak_GBps * 8, gbits, figures.messages_per_second / 1e6,
                 figures.cpu_s_per_GB);
      if (options_.peers) {
        Result<double> peer = peer_GBps(task);
        if (peer.ok()) peer = peer.value() * 8;
        fmt::print("{}", compared(peer, peer.ok() ? gbits / peer.value() : 0));
      }
      fmt::print("\n");
      keep(task, figures);
    }
    print_counters();
    return {};
  }

  Status latency(std::span<const std::uint64_t> sizes) {
    const bool told = operation_ == RawOperation::kWriteImm || operation_ == RawOperation::kSend;
    fmt::print("\n{} {}, latency: {}\n", options_.transport, operation_name(operation_),
               told ? "half of there and back" : "from the post to its completion");
    fmt::print(" {:>9} {:>11} {:>12} {:>12} {:>16} {:>12} {:>14} {:>20} {:>22}{}\n", "#bytes",
               "#messages", "t_min[usec]", "t_max[usec]", "t_typical[usec]", "t_avg[usec]",
               "t_stdev[usec]", "99% percentile[usec]", "99.9% percentile[usec]",
               options_.peers ? "    peer[usec]  of peer" : "");
    for (const std::uint64_t bytes : sizes) {
      const RawTask task = make_task(bytes, true);
      PENSTOCK_ASSIGN_OR_RETURN(const RawFigures figures, measure_raw(task));
      const Summary& us = figures.latency_us;
      fmt::print(
          " {:>9} {:>11} {:>12.2f} {:>12.2f} {:>16.2f} {:>12.2f} {:>14.2f} {:>20.2f} {:>22.2f}",
          bytes, task.messages, us.min, us.max, us.p50, us.mean, us.deviation, us.p99, us.p999);
      if (options_.peers) {
        const Result<double> peer = peer_latency_us(task);
        fmt::print("{}", compared(peer, peer.ok() ? us.p50 / peer.value() : 0));
      }
      fmt::print("\n");
      keep(task, figures);
    }
    print_counters();
    return {};
  }

 private:
  RawTask make_task(std::uint64_t bytes, bool latency) const {
    RawTask task;
    task.transport = options_.transport;
    task.data = options_.data;
    task.secret = secret_.bytes();
    task.operation = operation_;
    task.latency = latency;
    task.two_way = options_.two_way;
    task.bytes = bytes;
    task.messages = options_.messages > 0 ? options_.messages : default_messages(bytes, latency);
    task.depth = options_.depth;
    task.deadline_ns = options_.seconds * kSecond;
    return task;
  }
  void keep(const RawTask& task, const RawFigures& figures) {
    std::fflush(stdout);
    add(counters_, task.transport, figures.counters);
    rows_.push_back(row_of(task, figures));
  }
  // One table's, all sizes together.
  void print_counters() {
    fmt::print("{}", lines_of(std::exchange(counters_, {}), " counted on"));
    std::fflush(stdout);
  }

  const RawOptions& options_;
  const RawOperation operation_;
  Json& rows_;
  RailCounters counters_;
  const Secret secret_ = Secret::random();
};

}  // namespace

Status print_transport(const RawOptions& options) {
  PENSTOCK_RETURN_IF_ERROR(validate(options.data, options.transport));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> sizes, parse_sizes(options.sizes));
  Json rows = Json::array();
  for (const std::string& name : options.operations) {
    PENSTOCK_ASSIGN_OR_RETURN(const RawOperation operation, parse_operation(name));
    Printer printer(options, operation, rows);
    for (const std::string& mode : options.modes) {
      if (mode != "bw" && mode != "lat")
        return Status(Code::kInvalidArgument, fmt::format("no mode is called '{}'", mode))
            .with_hint("known: bw, lat");
      PENSTOCK_RETURN_IF_ERROR(mode == "bw" ? printer.bandwidth(sizes) : printer.latency(sizes));
    }
  }
  if (options.json.empty()) return {};
  return write_file(options.json, report_of(kRawJsonSchema, read_environment(), rows));
}

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/ceiling_tcp.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

#include "bench/psbench/shared_memory.h"
#include "bench/psbench/tcp_streams.h"
#include "bindings/launch/child_process.h"
#include "transport/base/host_memory.h"

namespace penstock::psbench {
namespace {

// What a process leaves for its parent; written before it ends, read after it was reaped.
struct Findings {
  char error[256];
  double round_us[kMaxCeilingRounds];
  double cpu_s;  // of all its threads, over the measured rounds
};

struct Task {
  TcpCeilingOptions options;
  TimeNs deadline_ns;        // on SystemClock
  std::size_t stream_bytes;  // per stream, round and direction
};

double process_cpu_s() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

// One process: all its streams, a thread each, in step from round to round.
class Side {
 public:
  Side(const Task& task, bool worker, std::vector<UniqueFd> streams, Findings& findings)
      : task_(task),
        worker_(worker),
        streams_(std::move(streams)),
        findings_(findings),
        round_(static_cast<std::ptrdiff_t>(streams_.size())) {}

  int run() {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < streams_.size(); ++i)
      threads.emplace_back([this, i] { run_stream(streams_[i].get(), i == 0); });
    threads.clear();
    return failed_.load() ? 1 : 0;
  }

 private:
  void run_stream(int fd, bool keeps_time) {
    const Status status = run_rounds(fd, keeps_time);
    if (!status.ok() && !failed_.exchange(true))
      fmt::format_to_n(findings_.error, sizeof findings_.error - 1, "{}", status.to_string());
    round_.arrive_and_drop();  // whoever ended early must not hold up the others
  }

  Status run_rounds(int fd, bool keeps_time) {
    PENSTOCK_ASSIGN_OR_RETURN(const HostMemory out, HostMemory::allocate(task_.stream_bytes));
    PENSTOCK_ASSIGN_OR_RETURN(const HostMemory in, HostMemory::allocate(task_.stream_bytes));
    std::memset(out.bytes().data(), 1, out.bytes().size());  // pages of our own, not the zero page
    std::memset(in.bytes().data(), 1, in.bytes().size());
    round_.arrive_and_wait();
    const SystemClock clock;
    for (unsigned round = 0; round <= task_.options.rounds; ++round) {
      const TimeNs begin = clock.now_ns();
      PENSTOCK_RETURN_IF_ERROR(run_round(fd, out.bytes(), in.bytes()));
      round_.arrive_and_wait();
      if (keeps_time) keep_time(round, clock.now_ns() - begin);
    }
    return {};
  }

  // A one-way round ends with a byte back, or it would end when the bytes are in the socket's
  // buffer and not at the peer.
  Status run_round(int fd, std::span<std::byte> out, std::span<std::byte> in) {
    const TimeNs deadline_ns = task_.deadline_ns;
    if (task_.options.two_way) return exchange_bytes(fd, out, in, deadline_ns);
    if (worker_) {
      PENSTOCK_RETURN_IF_ERROR(exchange_bytes(fd, out, {}, deadline_ns));
      return exchange_bytes(fd, {}, in.first(1), deadline_ns);
    }
    PENSTOCK_RETURN_IF_ERROR(exchange_bytes(fd, {}, in, deadline_ns));
    return exchange_bytes(fd, out.first(1), {}, deadline_ns);
  }

  // Round 0 warms up: its time is dropped, and processor time counts from its end.
  void keep_time(unsigned round, TimeNs taken_ns) {
    if (round == 0) cpu_before_s_ = process_cpu_s();
    if (round > 0)
      findings_.round_us[round - 1] =
          static_cast<double>(taken_ns) / static_cast<double>(kMicrosecond);
    if (round == task_.options.rounds) findings_.cpu_s = process_cpu_s() - cpu_before_s_;
  }

  const Task& task_;
  const bool worker_;
  const std::vector<UniqueFd> streams_;
  Findings& findings_;
  std::barrier<> round_;
  double cpu_before_s_ = 0;  // of the thread that keeps the time
  std::atomic<bool> failed_{false};
};

Status check(const TcpCeilingOptions& options) {
  const bool processes = options.workers >= 1 && options.servers >= 1 &&
                         options.workers <= kMaxCeilingStreams &&
                         options.servers <= kMaxCeilingStreams;
  const std::uint64_t streams = std::uint64_t{options.workers} * options.servers * options.streams;
  if (!processes || streams < 1 || streams > kMaxCeilingStreams)
    return Status(Code::kInvalidArgument,
                  fmt::format("{} raw TCP streams between each of {} workers and {} servers",
                              options.streams, options.workers, options.servers))
        .with_hint(fmt::format("1 to {} in all are possible", kMaxCeilingStreams));
  if (options.rounds < 1 || options.rounds > kMaxCeilingRounds)
    return Status(Code::kInvalidArgument, fmt::format("{} raw TCP rounds", options.rounds))
        .with_hint(fmt::format("1 to {} are possible", kMaxCeilingRounds));
  return {};
}

// The streams of each process, workers first.
Result<std::vector<std::vector<UniqueFd>>> connect_all(const TcpCeilingOptions& options) {
  std::vector<std::vector<UniqueFd>> ends(options.workers + options.servers);
  for (unsigned worker = 0; worker < options.workers; ++worker) {
    for (unsigned server = 0; server < options.servers; ++server) {
      PENSTOCK_ASSIGN_OR_RETURN(std::vector<TcpPair> pairs, connect_streams(options.streams));
      for (TcpPair& pair : pairs) {
        ends[worker].push_back(std::move(pair.first));
        ends[options.workers + server].push_back(std::move(pair.second));
      }
    }
  }
  return ends;
}

Status reap(ChildProcess& child, const Task& task, const Findings& findings) {
  // A child keeps the deadline itself; the second on top is for it to say so.
  PENSTOCK_ASSIGN_OR_RETURN(const ChildExit exit, child.wait(task.deadline_ns + kSecond));
  if (exit.signal != 0)
    return {Code::kPeerLost, fmt::format("raw TCP process killed by signal {}", exit.signal)};
  if (exit.code != 0) return {Code::kConnectionLost, findings.error};
  return {};
}

Status run_processes(const Task& task, Findings* findings) {
  PENSTOCK_ASSIGN_OR_RETURN(auto ends, connect_all(task.options));
  std::vector<ChildProcess> children;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(
        ChildProcess child, ChildProcess::start([&, i] {
          std::vector<UniqueFd> own = std::move(ends[i]);
          ends.clear();  // or the death of a peer would go unseen
          return Side(task, i < task.options.workers, std::move(own), findings[i]).run();
        }));
    children.push_back(std::move(child));
  }
  ends.clear();
  for (std::size_t i = 0; i < children.size(); ++i)
    PENSTOCK_RETURN_IF_ERROR(reap(children[i], task, findings[i]));
  return {};
}

}  // namespace

Result<TcpCeiling> measure_tcp_ceiling(const TcpCeilingOptions& options) {
  PENSTOCK_RETURN_IF_ERROR(check(options));
  const std::uint64_t streams = std::uint64_t{options.servers} * options.streams;  // of a worker
  const Task task{options, SystemClock().now_ns() + options.deadline_ns,
                  std::max<std::uint64_t>(1, options.bytes_per_round / streams)};
  const unsigned processes = options.workers + options.servers;
  PENSTOCK_ASSIGN_OR_RETURN(const SharedMemory shared,
                            SharedMemory::create(processes * sizeof(Findings)));
  const auto* findings = shared.as<Findings>();
  PENSTOCK_RETURN_IF_ERROR(run_processes(task, shared.as<Findings>()));

  std::vector<double> rounds(options.rounds);
  double cpu_s = 0;
  for (unsigned i = 0; i < processes; ++i) cpu_s += findings[i].cpu_s;
  for (unsigned round = 0; round < options.rounds; ++round)
    for (unsigned i = 0; i < options.workers; ++i)
      rounds[round] = std::max(rounds[round], findings[i].round_us[round]);
  TcpCeiling ceiling;
  ceiling.round_us = summarize(rounds);
  const double worker_GB = static_cast<double>(task.stream_bytes * streams) / 1e9;
  const double loaded_GB = worker_GB * std::max(1.0, 1.0 * options.workers / options.servers);
  ceiling.GBps = loaded_GB / (ceiling.round_us.p50 / 1e6);
  const double moved_GB = worker_GB * options.workers * options.rounds * (options.two_way ? 2 : 1);
  ceiling.cpu_s_per_GB = cpu_s / moved_GB;
  return ceiling;
}

}  // namespace penstock::psbench

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

#include "bench/psbench/anonymous_memory.h"
#include "bench/psbench/child_process.h"
#include "bench/psbench/tcp_streams.h"

namespace penstock::psbench {
namespace {

// What a child leaves for its parent; written before it ends, read after it was reaped.
struct Findings {
  char error[256];
  double round_us[kMaxCeilingRounds];
  double cpu_s;  // of all its threads, over the measured rounds
};

double process_cpu_s() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

struct Task {
  TcpCeilingOptions options;
  TimeNs deadline_ns;        // on SystemClock
  bool first;                // of the two processes: it keeps the time, and sends in one-way rounds
  std::size_t stream_bytes;  // per stream, round and direction
};

// One round on one stream. A one-way round ends with a byte back, or it would end when the bytes
// are in the socket's buffer and not at the peer.
Status run_round(int fd, const Task& task, std::span<std::byte> out, std::span<std::byte> in) {
  if (task.options.two_way) return exchange_bytes(fd, out, in, task.deadline_ns);
  const std::span<std::byte> none;
  PENSTOCK_RETURN_IF_ERROR(
      exchange_bytes(fd, task.first ? out : none, task.first ? none : in, task.deadline_ns));
  return exchange_bytes(fd, task.first ? none : out.first(1), task.first ? in.first(1) : none,
                        task.deadline_ns);
}

class Side {
 public:
  Side(const Task& task, Findings& findings)
      : task_(task), findings_(findings), round_(task.options.streams) {}

  // All rounds on one stream, in step with the other streams of this process.
  void run_stream(int fd, bool keeps_time) {
    const Status status = run_rounds(fd, keeps_time);
    if (!status.ok() && !failed_.exchange(true))
      fmt::format_to_n(findings_.error, sizeof findings_.error - 1, "{}", status.to_string());
    round_.arrive_and_drop();  // whoever ended early must not hold up the others
  }

  bool failed() const { return failed_.load(); }

 private:
  Status run_rounds(int fd, bool keeps_time) {
    PENSTOCK_ASSIGN_OR_RETURN(const AnonymousMemory out,
                              AnonymousMemory::create(task_.stream_bytes));
    PENSTOCK_ASSIGN_OR_RETURN(const AnonymousMemory in,
                              AnonymousMemory::create(task_.stream_bytes));
    std::memset(out.bytes().data(), 1, out.bytes().size());  // pages of our own, not the zero page
    std::memset(in.bytes().data(), 1, in.bytes().size());
    round_.arrive_and_wait();
    const SystemClock clock;
    for (unsigned round = 0; round <= task_.options.rounds; ++round) {
      const TimeNs begin = clock.now_ns();
      PENSTOCK_RETURN_IF_ERROR(run_round(fd, task_, out.bytes(), in.bytes()));
      round_.arrive_and_wait();
      if (keeps_time) keep_time(round, clock.now_ns() - begin);
    }
    return {};
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
  Findings& findings_;
  std::barrier<> round_;
  double cpu_before_s_ = 0;  // of the thread that keeps the time
  std::atomic<bool> failed_{false};
};

int run_side(std::vector<TcpPair>& streams, const Task& task, Findings& findings) {
  Side side(task, findings);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      UniqueFd& own = task.first ? streams[i].first : streams[i].second;
      (task.first ? streams[i].second : streams[i].first).reset();  // or a death would go unseen
      threads.emplace_back([&side, fd = own.get(), first = i == 0] { side.run_stream(fd, first); });
    }
  }
  return side.failed() ? 1 : 0;
}

Status check(const TcpCeilingOptions& options) {
  if (options.streams < 1 || options.streams > kMaxCeilingStreams)
    return Status(Code::kInvalidArgument, fmt::format("{} raw TCP streams", options.streams))
        .with_hint(fmt::format("1 to {} are possible", kMaxCeilingStreams));
  if (options.rounds < 1 || options.rounds > kMaxCeilingRounds)
    return Status(Code::kInvalidArgument, fmt::format("{} raw TCP rounds", options.rounds))
        .with_hint(fmt::format("1 to {} are possible", kMaxCeilingRounds));
  return {};
}

Status reap(ChildProcess& child, const Task& task, const Findings& findings) {
  // A child keeps the deadline itself; the second on top is for it to say so.
  PENSTOCK_ASSIGN_OR_RETURN(const ChildExit exit, child.wait(task.deadline_ns + kSecond));
  if (exit.signal != 0)
    return Status(Code::kPeerLost, fmt::format("raw TCP process killed by signal {}", exit.signal));
  if (exit.code != 0) return Status(Code::kConnectionLost, findings.error);
  return {};
}

}  // namespace

Result<TcpCeiling> measure_tcp_ceiling(const TcpCeilingOptions& options) {
  PENSTOCK_RETURN_IF_ERROR(check(options));
  Task task{options, SystemClock().now_ns() + options.deadline_ns, true,
            std::max<std::size_t>(1, options.bytes_per_round / options.streams)};
  PENSTOCK_ASSIGN_OR_RETURN(const AnonymousMemory shared,
                            AnonymousMemory::create(2 * sizeof(Findings), true));
  auto* findings = reinterpret_cast<Findings*>(shared.bytes().data());
  PENSTOCK_ASSIGN_OR_RETURN(std::vector<TcpPair> streams, connect_streams(options.streams));
  PENSTOCK_ASSIGN_OR_RETURN(ChildProcess first, ChildProcess::start([&] {
                              return run_side(streams, task, findings[0]);
                            }));
  task.first = false;
  PENSTOCK_ASSIGN_OR_RETURN(ChildProcess second, ChildProcess::start([&] {
                              return run_side(streams, task, findings[1]);
                            }));
  streams.clear();
  PENSTOCK_RETURN_IF_ERROR(reap(first, task, findings[0]));
  PENSTOCK_RETURN_IF_ERROR(reap(second, task, findings[1]));

  TcpCeiling ceiling;
  ceiling.round_us = summarize({findings[0].round_us, options.rounds});
  const double gigabytes = static_cast<double>(task.stream_bytes * options.streams) / 1e9;
  ceiling.GBps = gigabytes / (ceiling.round_us.p50 / 1e6);
  const double moved = gigabytes * options.rounds * (options.two_way ? 2 : 1);
  ceiling.cpu_s_per_GB = (findings[0].cpu_s + findings[1].cpu_s) / moved;
  return ceiling;
}

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/raw_pair.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "bench/psbench/raw_side.h"
#include "bench/psbench/shared_memory.h"
#include "bindings/launch/child_process.h"

namespace penstock::psbench {
namespace {

// A child says what kept it from measuring in its findings, with the code as its exit status.
int leave_with(const Status& status, RawFindings& findings) {
  const std::string text = status.ok() ? "" : status.to_string();
  text.copy(findings.error, sizeof findings.error - 1);
  return static_cast<int>(status.code());
}

Status reap(ChildProcess& child, const RawFindings& findings, TimeNs deadline_ns) {
  PENSTOCK_ASSIGN_OR_RETURN(const ChildExit exit, child.wait(deadline_ns + kSecond));
  if (exit.signal != 0)
    return {Code::kPeerLost,
            fmt::format("a measuring process was killed by signal {}", exit.signal)};
  if (exit.code != 0) return {static_cast<Code>(exit.code), findings.error};
  return {};
}

RawFigures figures_from(const RawTask& task, const RawFindings& poster, const RawFindings& other) {
  const std::span samples(poster.sample_us, poster.samples);
  RawFigures figures;
  const double GB = static_cast<double>(task.bytes) * static_cast<double>(task.messages) / 1e9;
  if (task.latency) {
    figures.latency_us = summarize(samples);
    if (figures.latency_us.mean > 0) figures.messages_per_second = 1e6 / figures.latency_us.mean;
  } else {
    if (poster.elapsed_s > 0) {
      figures.average_GBps = figures.peak_GBps = GB / poster.elapsed_s;
      figures.messages_per_second = static_cast<double>(task.messages) / poster.elapsed_s;
    }
    for (const double us : samples)
      figures.peak_GBps = std::max(figures.peak_GBps, static_cast<double>(task.bytes) / us / 1e3);
  }
  if (GB > 0) figures.cpu_s_per_GB = (poster.cpu_s + other.cpu_s) / (GB * (task.two_way ? 2 : 1));
  for (std::uint32_t i = 0; i < poster.counters; ++i)
    figures.counters.push_back({poster.counter[i].name, poster.counter[i].value});
  return figures;
}

}  // namespace

std::string_view operation_name(RawOperation operation) {
  switch (operation) {
    case RawOperation::kWrite:
      return "write";
    case RawOperation::kWriteImm:
      return "write-imm";
    case RawOperation::kRead:
      return "read";
    case RawOperation::kSend:
      return "send";
  }
  return "";
}

Result<RawFigures> measure_raw(const RawTask& task) {
  const TimeNs deadline_ns = SystemClock().now_ns() + task.deadline_ns;
  PENSTOCK_ASSIGN_OR_RETURN(const SharedMemory shared,
                            SharedMemory::create(2 * sizeof(RawFindings)));
  auto* const findings = shared.as<RawFindings>();
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return Status::system("connecting two measuring processes", errno);
  std::array<UniqueFd, 2> sockets{UniqueFd(ends[0]), UniqueFd(ends[1])};
  std::vector<ChildProcess> children;
  for (std::size_t i = 0; i < 2; ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(
        ChildProcess child, ChildProcess::start([&, i] {
          sockets[1 - i].reset();  // or the death of the peer would go unseen
          return leave_with(run_raw_side(task, i == 0, sockets[i].get(), deadline_ns, findings[i]),
                            findings[i]);
        }));
    children.push_back(std::move(child));
  }
  sockets = {};
  const Status poster = reap(children[0], findings[0], deadline_ns);
  const Status other = reap(children[1], findings[1], deadline_ns);
  // One side's failure looks like a lost connection to the other: the other reason is the cause.
  if (!poster.ok() && poster.code() != Code::kConnectionLost) return poster;
  PENSTOCK_RETURN_IF_ERROR(other);
  PENSTOCK_RETURN_IF_ERROR(poster);
  return figures_from(task, findings[0], findings[1]);
}

}  // namespace penstock::psbench

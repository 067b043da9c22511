// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/session.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "transport/providers.h"

namespace penstock::psbench {

Status parse_local(const std::string& text, LocalJob& job) {
  const char* const end = text.data() + text.size();
  std::uint32_t servers = 0, workers = 0;
  const auto first = std::from_chars(text.data(), end, servers);
  const bool cross = first.ec == std::errc() && first.ptr != end && *first.ptr == 'x';
  const auto second = std::from_chars(cross ? first.ptr + 1 : end, end, workers);
  if (!cross || second.ec != std::errc() || second.ptr != end || servers == 0 || workers == 0)
    return Status(Code::kInvalidArgument, fmt::format("--local '{}'", text))
        .with_hint("write SERVERSxWORKERS, each at least 1, for example 1x2");
  job.servers = servers;
  job.workers = workers;
  return {};
}

Status validate(const LocalJob& job) {
  if (1 + job.servers + job.workers > kMaxLocalProcesses)
    return Status(Code::kInvalidArgument,
                  fmt::format("{} servers and {} workers on one host; at most {} processes",
                              job.servers, job.workers, kMaxLocalProcesses));
  if (job.lanes < 1 || job.lanes > kMaxLanes)
    return Status(Code::kInvalidArgument,
                  fmt::format("--lanes {}: must be 1 to {}", job.lanes, kMaxLanes));
  if (job.slice_bytes < kMinSliceBytes || job.slice_bytes > kMaxSliceBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("--slice of {} bytes: must be {} to {}", job.slice_bytes,
                              kMinSliceBytes, kMaxSliceBytes));
  const std::vector<std::string> known = provider_names();
  if (std::find(known.begin(), known.end(), job.transport) == known.end())
    return Status(Code::kInvalidArgument, fmt::format("no transport is called '{}'", job.transport))
        .with_hint(fmt::format("known: {}", fmt::join(known, ", ")));
  return validate(job.data, job.transport);
}

std::string describe_transport(const LocalJob& job) {
  return fmt::format("{}{}{}{}", job.transport, job.data.encrypt ? ", encrypted" : "",
                     job.data.kernel_tls ? " by the kernel" : "",
                     job.data.zerocopy ? ", MSG_ZEROCOPY" : "");
}

double cpu_seconds(const SharedPage& page) {
  double seconds = 0;
  for (std::uint32_t i = 0; i < page.processes.load(); ++i) {
    clockid_t clock{};
    timespec used{};
    if (clock_getcpuclockid(page.pids[i].load(), &clock) == 0 && clock_gettime(clock, &used) == 0)
      seconds += static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
  }
  return seconds;
}

}  // namespace penstock::psbench

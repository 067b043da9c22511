// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "bench/psbench/statistics.h"
#include "transport/base/clock.h"
#include "transport/base/status.h"

namespace penstock::psbench {

inline constexpr unsigned kMaxCeilingStreams = 4096;  // all together: a thread at both ends of each
inline constexpr unsigned kMaxCeilingRounds = 1000;

struct TcpCeilingOptions {
  unsigned workers = 1, servers = 1;  // processes on either side; each pair is connected …
  unsigned streams = 1;               // … this often, with a thread at both ends of each
  std::uint64_t bytes_per_round = 1;  // each way and worker, over its streams; also the footprint
  unsigned rounds = 5;                // measured, after one that is not
  bool two_way = true;                // both directions at once, or only from worker to server
  TimeNs deadline_ns = 30 * kSecond;  // for the whole measurement, from now
};

struct TcpCeiling {
  Summary round_us;  // of the slowest worker in each round
  double GBps = 0;   // 10⁹ bytes a second, one direction, most loaded process, median round
  double cpu_s_per_GB = 0;  // of all processes, per GB sent or received by all workers
};

// What plain send and recv move between forked processes over loopback: each stream's thread takes
// turns sending and receiving, and sleeps in poll() when neither goes on. Forks: call it before
// this process has threads. Errors: kInvalidArgument, kTimeout, kSystem.
Result<TcpCeiling> measure_tcp_ceiling(const TcpCeilingOptions& options);

}  // namespace penstock::psbench

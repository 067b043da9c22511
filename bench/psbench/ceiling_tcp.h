// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "bench/psbench/statistics.h"
#include "transport/base/clock.h"
#include "transport/base/status.h"

namespace penstock::psbench {

inline constexpr unsigned kMaxCeilingStreams = 64;
inline constexpr unsigned kMaxCeilingRounds = 1000;

struct TcpCeilingOptions {
  unsigned streams = 1;               // connections, each with a thread at both ends
  std::uint64_t bytes_per_round = 1;  // each way, over all streams; also the buffers' footprint
  unsigned rounds = 5;                // measured, after one that is not
  bool two_way = true;                // both directions at once, or one direction only
  TimeNs deadline_ns = 30 * kSecond;  // for the whole measurement, from now
};

struct TcpCeiling {
  Summary round_us;
  double GBps = 0;          // 10⁹ bytes a second, one direction, in the median round
  double cpu_s_per_GB = 0;  // of both processes, per GB sent or received by one of them
};

// What plain send and recv move between two forked processes over loopback: each stream's thread
// takes turns sending and receiving, and sleeps in poll() when neither goes on. Forks: call it
// before this process has threads. Errors: kInvalidArgument, kTimeout, kSystem.
Result<TcpCeiling> measure_tcp_ceiling(const TcpCeilingOptions& options);

}  // namespace penstock::psbench

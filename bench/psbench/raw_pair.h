// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One transport between two processes of this host, without the engine: what posts alone reach.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/psbench/statistics.h"
#include "transport/providers.h"

namespace penstock::psbench {

enum class RawOperation : std::uint8_t { kWrite, kWriteImm, kRead, kSend };
std::string_view operation_name(RawOperation operation);

struct RawTask {
  std::string transport = "tcp";
  DataOptions data;
  std::span<const unsigned char> secret;  // of data.encrypt
  RawOperation operation = RawOperation::kWrite;
  bool latency = false;  // one at a time: there and back where the peer is told, else to completion
  bool two_way = false;  // both sides post at once (bandwidth only)
  std::uint64_t bytes = 65536;        // of one message
  std::uint64_t messages = 1000;      // measured, per direction; a tenth more before as a warm-up
  std::uint32_t depth = 128;          // posts outstanding (bandwidth only)
  TimeNs deadline_ns = 60 * kSecond;  // of the whole measurement
};

struct RawFigures {
  // Bandwidth, per direction; GB = 10⁹ bytes. The average is of the whole run, the peak of its best
  // part; parts are many times as long as what is outstanding, whose completions come in bursts.
  double peak_GBps = 0, average_GBps = 0;
  double messages_per_second = 0;
  Summary latency_us;             // latency: half of there and back, or post to completion
  double cpu_s_per_GB = 0;        // of both processes
  std::vector<Counter> counters;  // the poster's, at the end
};

// kInvalidArgument when kSend cannot carry so long a message, kUnsupported when the transport
// cannot be opened here; kTimeout past the deadline.
Result<RawFigures> measure_raw(const RawTask& task);

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "bench/psbench/raw_pair.h"

namespace penstock::psbench {

// What a side leaves for the parent; lies in shared memory, filled before the process ends.
struct RawFindings {
  static constexpr std::size_t kMaxSamples = 1 << 14;
  static constexpr std::size_t kMaxCounters = 64;
  char error[512];
  std::uint32_t samples;
  double sample_us[kMaxSamples];  // of one message: mean of a sample, or one message's latency
  double elapsed_s;               // bandwidth: from the first post to the last completion
  double cpu_s;
  std::uint32_t counters;
  struct {
    char name[56];
    std::uint64_t value;
  } counter[kMaxCounters];
};

// One of the two processes. `to_peer`: a connected stream socket to the other one. Blocks until the
// measurement is over or the deadline (SystemClock) has passed.
Status run_raw_side(const RawTask& task, bool poster, int to_peer, TimeNs deadline_ns,
                    RawFindings& findings);

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "bench/psbench/statistics.h"
#include "transport/base/status.h"

namespace penstock::psbench {

// GB = 10⁹ bytes; medians over the passes. Copying n bytes reads n and writes n and counts as n.
struct MemoryCeiling {
  double read_GBps = 0, copy_GBps = 0;
};

// Bandwidth of `threads` threads together, each streaming through its own part of `bytes`, `passes`
// times after one that is not counted. Choose `bytes` well above the last-level cache. A copy reads
// one half of the part and writes the other. Errors: kInvalidArgument, kSystem.
Result<MemoryCeiling> measure_memory_ceiling(unsigned threads, std::uint64_t bytes,
                                             unsigned passes = 5);

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The fused update against the ceilings and the other ways, all taken in one run: single-threaded,
// in CPU time of the thread, so that other processes' time slices do not count.

#include <cstddef>
#include <optional>

#include "bench/kernels/workload.h"

namespace penstock::bench {

// CPU time of this thread, in seconds.
double thread_seconds();

// Within a round each way goes once through the arrays, so what disturbs one disturbs all. Its
// clock starts after the first quarter: by then the caches hold what this way leaves behind, not
// lines that another has stored and that are still to be written back. Hence so many elements and
// no fewer.
inline constexpr std::size_t kElementStep = 4 * 4096;  // of Shape::elements

// Over the rounds.
struct Quartiles {
  double low = 0, median = 0, high = 0;
};

// The wire is streamed but for `share_cached`. Shares are of the read bandwidth: bytes read
// (W·g + 4 + 4·S, and o with a cached wire, whose lines are fetched to be written) per second, over
// the same bytes per second when they are merely read, by the faster of two ways.
struct Ratios {
  Quartiles params_per_s;
  Quartiles read_GBps;  // the ceiling; GB = 10⁹ bytes
  Quartiles share_of_read_bandwidth;
  std::optional<Quartiles> share_cached;  // with a wire
  Quartiles fused_over_separate;          // parameters per second over those of separate passes
  std::optional<Quartiles> fused_over_cpu_adam;  // where has_cpu_adam()
};

// `rounds` ≥ 1, after one that is not counted. The elements are a multiple of kElementStep; let a
// quarter of each array be at least the last-level cache.
Ratios measure(Workload& workload, const KernelTable& kernels, unsigned rounds);

}  // namespace penstock::bench

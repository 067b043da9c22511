// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace penstock::psbench {

// What a set of samples says, in the samples' unit. All zero when there are none.
struct Summary {
  std::size_t count = 0;
  double min = 0, mean = 0, p50 = 0, p99 = 0, p999 = 0, max = 0;
  double deviation = 0;  // of the sample (n − 1)
};

Summary summarize(std::span<const double> samples);

// The nearest-rank percentile: the smallest sample that `percent` % of the samples do not exceed.
// `sorted` ascending, not empty; 0 ≤ percent ≤ 100.
double percentile(std::span<const double> sorted, double percent);

}  // namespace penstock::psbench

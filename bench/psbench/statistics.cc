// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "transport/base/check.h"

namespace penstock::psbench {

double percentile(std::span<const double> sorted, double percent) {
  CHECK(!sorted.empty() && percent >= 0 && percent <= 100);
  // The tolerance keeps 99.9 % of 1000 at rank 999 although 0.999 · 1000 rounds to 999.0000…01.
  const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()) - 1e-9);
  return sorted[rank < 1 ? 0 : static_cast<std::size_t>(rank) - 1];
}

Summary summarize(std::span<const double> samples) {
  if (samples.empty()) return {};
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  Summary summary;
  summary.count = sorted.size();
  summary.min = sorted.front();
  summary.max = sorted.back();
  summary.p50 = percentile(sorted, 50);
  summary.p99 = percentile(sorted, 99);
  summary.p999 = percentile(sorted, 99.9);
  const double n = static_cast<double>(sorted.size());
  summary.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / n;
  double squares = 0;
  for (const double sample : sorted) squares += (sample - summary.mean) * (sample - summary.mean);
  summary.deviation = sorted.size() > 1 ? std::sqrt(squares / (n - 1)) : 0;
  return summary;
}

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/kernels/ratios.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <vector>

#include "transport/base/check.h"

namespace penstock::bench {
namespace {

enum Way { kReadInTurn, kReadSideBySide, kFused, kSeparate, kFusedCached, kCpuAdam, kWays };
using Times = std::array<double, kWays>;  // seconds

// Tells the compiler that `value` is used.
void keep(std::uint64_t value) { asm volatile("" : : "r"(value) : "memory"); }

void go(Workload& workload, const KernelTable& kernels, Way way, Range range) {
  switch (way) {
    case kReadInTurn:
      return keep(workload.read_in_turn(range));
    case kReadSideBySide:
      return keep(workload.read_side_by_side(range));
    case kFused:
      return workload.fused(kernels, range, true);
    case kSeparate:
      return workload.separate(kernels, range);
    case kFusedCached:
      return workload.fused(kernels, range, false);
    case kCpuAdam:
      return workload.cpu_adam(range);
    case kWays:
      return;
  }
}

// Seconds for all elements, from what three quarters of them took.
Times measure_round(Workload& workload, const KernelTable& kernels, const std::vector<Way>& ways) {
  const std::size_t quarter = workload.shape().elements / 4;
  Times times{};
  for (const Way way : ways) {
    go(workload, kernels, way, {0, quarter});
    const double start = thread_seconds();
    go(workload, kernels, way, {quarter, 3 * quarter});
    times[way] = (thread_seconds() - start) * 4 / 3;
  }
  return times;
}

template <class Value>
Quartiles quartiles_of(const std::vector<Times>& rounds, const Value& value) {
  std::vector<double> values;
  for (const Times& times : rounds) values.push_back(value(times));
  std::sort(values.begin(), values.end());
  const std::size_t last = values.size() - 1;
  return {values[last / 4], values[last / 2], values[last - last / 4]};
}

Ratios ratios_of(const Shape& shape, const std::vector<Way>& ways,
                 const std::vector<Times>& rounds) {
  const auto time = [&](Way way) {
    return quartiles_of(rounds, [&](const Times& times) { return times[way]; }).median;
  };
  const auto ratio = [&](Way over, Way under, double factor = 1) {
    return quartiles_of(rounds,
                        [&](const Times& times) { return factor * times[over] / times[under]; });
  };
  const auto rate = [&](Way way, double amount) {
    return quartiles_of(rounds, [&](const Times& times) { return amount / times[way]; });
  };
  const Way read = time(kReadInTurn) < time(kReadSideBySide) ? kReadInTurn : kReadSideBySide;
  const double elements = static_cast<double>(shape.elements);
  const double reads = static_cast<double>(read_bytes(shape));
  Ratios ratios;
  ratios.params_per_s = rate(kFused, elements);
  ratios.read_GBps = rate(read, 1e-9 * elements * reads);
  ratios.share_of_read_bandwidth = ratio(read, kFused);
  ratios.fused_over_separate = ratio(kSeparate, kFused);
  for (const Way way : ways) {
    if (way == kFusedCached)
      ratios.share_cached =
          ratio(read, way, (reads + static_cast<double>(wire_bytes(shape))) / reads);
    if (way == kCpuAdam) ratios.fused_over_cpu_adam = ratio(way, kFused);
  }
  return ratios;
}

}  // namespace

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Ratios measure(Workload& workload, const KernelTable& kernels, unsigned rounds) {
  const Shape& shape = workload.shape();
  CHECK(rounds >= 1 && shape.elements % kElementStep == 0, "{} rounds, {} elements", rounds,
        shape.elements);
  std::vector<Way> ways{kReadInTurn, kReadSideBySide, kFused, kSeparate};
  if (wire_bytes(shape) != 0) ways.push_back(kFusedCached);
  if (workload.has_cpu_adam()) ways.push_back(kCpuAdam);
  measure_round(workload, kernels, ways);  // warms up
  std::vector<Times> measured;
  for (unsigned i = 0; i < rounds; ++i) measured.push_back(measure_round(workload, kernels, ways));
  return ratios_of(shape, ways, measured);
}

}  // namespace penstock::bench

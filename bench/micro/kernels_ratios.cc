// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/kernels_ratios.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <vector>

#include "bench/micro/kernels_workload.h"

namespace penstock::bench {
namespace {

enum Way { kReadInTurn, kReadSideBySide, kFused, kFusedStreamed, kSeparate, kWays };
using Times = std::array<double, kWays>;  // seconds

constexpr std::size_t kWindows = 16;
constexpr std::size_t kStride = 5;  // windows between two turns; coprime to kWindows

void go(Workload& workload, Way way, Range range) {
  const KernelTable& kernels = best_kernels();
  switch (way) {
    case kReadInTurn:
      return benchmark::DoNotOptimize(workload.read_in_turn(range));
    case kReadSideBySide:
      return benchmark::DoNotOptimize(workload.read_side_by_side(range));
    case kFused:
      return workload.fused(kernels, range, false);
    case kFusedStreamed:
      return workload.fused(kernels, range, true);
    case kSeparate:
      return workload.separate(kernels, range);
    case kWays:
      return;
  }
}

// Each way visits every window once.
Times measure_round(Workload& workload) {
  const std::size_t window = workload.shape().elements / kWindows;
  Times times{};
  std::size_t turn = 0;
  for (std::size_t i = 0; i < kWindows; ++i) {
    for (std::size_t way = 0; way < kWays; ++way) {
      // Way w visits window (stride·kWays·i + stride·w) mod kWindows; the first factor is odd.
      const std::size_t first = turn++ * kStride % kWindows * window;
      const double start = thread_seconds();
      go(workload, static_cast<Way>(way), {first, window});
      times[way] += thread_seconds() - start;
    }
  }
  return times;
}

struct Quartiles {
  double low, median, high;
};

template <class Value>
Quartiles quartiles_of(const std::vector<Times>& rounds, const Value& value) {
  std::vector<double> values;
  for (const Times& times : rounds) values.push_back(value(times));
  std::sort(values.begin(), values.end());
  const std::size_t last = values.size() - 1;
  return {values[last / 4], values[last / 2], values[last - last / 4]};
}

void print_line(const char* name, Quartiles q, const char* unit) {
  fmt::print("{:<34} {:8.3f} {:<5} (quartiles {:.3f} … {:.3f})\n", name, q.median, unit, q.low,
             q.high);
}

void print_results(const Shape& shape, const std::vector<Times>& rounds) {
  const auto seconds = [&](Way way) {
    return quartiles_of(rounds, [&](const Times& times) { return times[way]; }).median;
  };
  // The ceiling is the faster way to read.
  const Way read = seconds(kReadInTurn) < seconds(kReadSideBySide) ? kReadInTurn : kReadSideBySide;
  const double gigabytes = 1e-9 * static_cast<double>(shape.elements * read_bytes(shape));
  const auto rate = [&](Way way) {
    return quartiles_of(rounds, [&](const Times& times) { return gigabytes / times[way]; });
  };
  const auto ratio = [&](Way over, Way under) {
    return quartiles_of(rounds, [&](const Times& times) { return times[over] / times[under]; });
  };
  print_line("read only", rate(read), "GB/s");
  print_line("fused, bytes read", rate(kFusedStreamed), "GB/s");
  print_line("read / fused", ratio(read, kFusedStreamed), "");
  print_line("read / fused, wire not streamed", ratio(read, kFused), "");
  print_line("separate / fused", ratio(kSeparate, kFusedStreamed), "");
}

}  // namespace

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void print_ratios(std::size_t elements, int rounds) {
  Shape shape;
  shape.elements = elements;
  Workload workload(shape);
  measure_round(workload);  // warms up
  std::vector<Times> measured;
  for (int i = 0; i < rounds; ++i) measured.push_back(measure_round(workload));
  fmt::print("adamw, {} bf16 gradients, bf16 wire, {} Mi parameters, 1 thread, {}, {} rounds\n",
             shape.workers, elements >> 20, best_kernels().target, rounds);
  print_results(shape, measured);
}

}  // namespace penstock::bench

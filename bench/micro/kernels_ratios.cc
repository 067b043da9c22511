// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/kernels_ratios.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "bench/micro/kernels_workload.h"

namespace penstock::bench {
namespace {

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Work>
double seconds_of(const Work& work) {
  const double start = thread_seconds();
  work();
  return thread_seconds() - start;
}

struct Series {
  std::vector<double> values;
  double quantile(double q) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
  }
};

void print_series(const char* name, Series& series, const char* unit) {
  fmt::print("{:<28} {:7.3f} {:<9} (quartiles {:.3f} … {:.3f})\n", name, series.quantile(0.5), unit,
             series.quantile(0.25), series.quantile(0.75));
}

}  // namespace

void print_ratios(std::size_t elements, int rounds) {
  Shape shape;
  shape.elements = elements;
  Workload workload(shape);
  const KernelTable& kernels = best_kernels();
  Series read_rate, fused_rate, update_rate, streamed_share, share, gain;
  const double bytes = static_cast<double>(read_bytes(shape));
  for (int round = -1; round < rounds; ++round) {  // round −1 warms up
    const double in_turn = seconds_of([&] { benchmark::DoNotOptimize(workload.read_in_turn()); });
    const double streamed = seconds_of([&] { workload.fused(kernels, true); });
    const double beside =
        seconds_of([&] { benchmark::DoNotOptimize(workload.read_side_by_side()); });
    const double fused = seconds_of([&] { workload.fused(kernels, false); });
    const double separate = seconds_of([&] { workload.separate(kernels); });
    if (round < 0) continue;
    const double read = std::min(in_turn, beside);
    const double best = std::min(fused, streamed);
    read_rate.values.push_back(bytes / read / 1e9);
    fused_rate.values.push_back(bytes / best / 1e9);
    update_rate.values.push_back(static_cast<double>(elements) / best / 1e6);
    share.values.push_back(read / fused);
    streamed_share.values.push_back(read / streamed);
    gain.values.push_back(separate / best);
  }
  fmt::print(
      "adamw, 8 bf16 gradients, bf16 wire, {} Mi parameters, 1 thread, target {}, {} rounds\n",
      elements >> 20, kernels.target, rounds);
  print_series("read only", read_rate, "GB/s");
  print_series("fused, bytes read", fused_rate, "GB/s");
  print_series("fused", update_rate, "M/s");
  print_series("fused / read (plain wire)", share, "");
  print_series("fused / read (streamed wire)", streamed_share, "");
  print_series("separate / fused", gain, "");
}

}  // namespace penstock::bench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Google Benchmark of the kernels; with --ratios, only the two ratios the documents quote.

#include <benchmark/benchmark.h>

#include <cstring>

#include "bench/micro/kernels_ratios.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--ratios") != 0) continue;
    penstock::bench::print_ratios(64U << 20, 9);
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

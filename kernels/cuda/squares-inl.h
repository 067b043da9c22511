// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sums of squares of a slice's sums and parameters, in the order of kernels/norms.h, which leaves
// sixteen chains of additions for each: one block for a slice; all its threads bring a tile into
// shared memory in 128-bit accesses, then sixteen add up one array and sixteen the other. Each
// function is what a thread does between two barriers.

#include "kernels/cuda/elements-inl.h"
#include "kernels/cuda/pass.h"
#include "kernels/math/norm_lanes.h"

PENSTOCK_BEGIN_TARGET

inline constexpr std::uint32_t kSquareLanes = 2 * kNormLanes;

struct SquaresShared {
  static constexpr std::uint32_t kTile = kBlockElements;
  // The second array is half a row of banks behind the first: a warp reads both without conflicts.
  alignas(16) float values[2][kTile + kNormLanes];
  double sums[2][kNormLanes];
};

// Eight elements of a tile from `begin`; zeros behind the last, which add nothing.
PENSTOCK_DEVICE inline void squares_load(const SlicePass& slice, SquaresShared& shared,
                                         std::uint32_t thread, std::uint64_t begin) {
  const std::uint64_t first = begin + thread * kPerThread;
  const float* const arrays[2] = {slice.sums, slice.parameters};
  for (std::uint32_t a = 0; a < 2; ++a) {
    float eight[kPerThread];
    if (slice.aligned && first + kPerThread <= slice.count)
      Float32::load(arrays[a] + first, eight);
    else
      for (std::uint32_t i = 0; i < kPerThread; ++i)
        eight[i] = first + i < slice.count ? arrays[a][first + i] : 0;
    for (std::uint32_t i = 0; i < kPerThread; ++i)
      shared.values[a][thread * kPerThread + i] = eight[i];
  }
}

// For the first kSquareLanes threads. The product of two floats is exact in double.
PENSTOCK_DEVICE inline double squares_add(const SquaresShared& shared, std::uint32_t thread,
                                          double sum) {
  const float* const values = shared.values[thread / kNormLanes] + thread % kNormLanes;
  for (std::uint32_t i = 0; i < SquaresShared::kTile; i += kNormLanes) {
    const auto value = static_cast<double>(values[i]);
    sum += value * value;
  }
  return sum;
}

PENSTOCK_DEVICE inline void squares_keep(SquaresShared& shared, std::uint32_t thread, double sum) {
  shared.sums[thread / kNormLanes][thread % kNormLanes] = sum;
}

// Of one thread.
PENSTOCK_DEVICE inline void squares_finish(const SlicePass& slice, SquaresShared& shared) {
  *slice.norms = {add_up(shared.sums[0]), add_up(shared.sums[1])};
}

PENSTOCK_END_TARGET

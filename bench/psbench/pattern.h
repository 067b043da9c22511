// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Whole numbers that depend on (worker, key, round, element): what psbench pushes, so that every
// misplaced, lost or doubled byte shows. Small enough to be exact in bf16, fp16 and in every sum.

#include <cstdint>

#include "engine/protocol/types.h"

namespace penstock::psbench {

constexpr std::int32_t kPatternRange = 15;

// −7 … 7. Neighbours differ, and so do equal places of neighbouring slices, keys, rounds, workers.
constexpr std::int32_t pattern_gradient(Rank worker, Key key, Round round, std::uint64_t element) {
  const std::uint64_t mixed = element * 5 + (element >> 9) + key * 3 + round * 7 + worker * 4;
  return static_cast<std::int32_t>(mixed % kPatternRange) - kPatternRange / 2;
}

// −100 … 100.
constexpr std::int32_t pattern_initial(Key key, std::uint64_t element) {
  return static_cast<std::int32_t>((element * 3 + (element >> 11) + key) % 201) - 100;
}

}  // namespace penstock::psbench

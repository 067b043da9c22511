// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where a server lane keeps the slices of one batch: a pure function of the batch and its
// placement, so that a worker that maps the lane's memory finds them without asking.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/protocol/shard_map.h"

namespace penstock {

struct SliceStorage {
  std::uint64_t first = 0;        // element in the masters, float32
  std::uint64_t wire_offset = 0;  // bytes in the outgoing copies; none for float32 parameters
  std::array<std::uint64_t, kMaxStatePlanes> state{};  // of each plane: bytes behind the masters
};

struct LaneStorage {
  std::vector<SliceStorage> slices;  // in the placement's order
  std::uint64_t elements = 0;        // of the masters, each slice rounded up to kSliceAlignment
  std::uint64_t state_bytes = 0;     // plane after plane; each slice of one starts on a cache line
  std::uint64_t wire_bytes = 0;
};

LaneStorage lay_out(std::span<const Declaration> batch, const LanePlacement& placement);

}  // namespace penstock

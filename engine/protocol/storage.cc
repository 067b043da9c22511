// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/protocol/storage.h"

#include "engine/protocol/limits.h"

namespace penstock {
namespace {
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}
}  // namespace

LaneStorage lay_out(std::span<const Declaration> batch, const LanePlacement& placement) {
  LaneStorage storage;
  for (const SlicePlace& place : placement.slices) {
    const DType dtype = batch[place.declaration].spec.parameter_dtype;
    storage.slices.push_back({storage.elements, storage.wire_bytes, {}});
    storage.elements += round_up(place.elements.count, kSliceAlignment);
    if (dtype != DType::kFloat32)
      storage.wire_bytes += round_up(place.elements.count * dtype_bytes(dtype), 64);
  }
  for (std::uint32_t plane = 0; plane < kMaxStatePlanes; ++plane)
    for (std::size_t i = 0; i < placement.slices.size(); ++i) {
      const SlicePlace& place = placement.slices[i];
      const OptimizerSpec& optimizer = batch[place.declaration].spec.optimizer;
      if (plane >= state_planes(optimizer)) continue;
      storage.slices[i].state[plane] = storage.state_bytes;
      storage.state_bytes += round_up(place.elements.count * state_bytes(optimizer, plane), 64);
    }
  return storage;
}

}  // namespace penstock

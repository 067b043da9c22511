// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/norm_table.h"

#include <algorithm>

#include "engine/protocol/limits.h"
#include "engine/server/lane_tables.h"

namespace penstock {
namespace {

constexpr std::uint64_t round_up(std::uint64_t elements) {
  return (elements + kSliceAlignment - 1) / kSliceAlignment * kSliceAlignment;
}

}  // namespace

Status LaneTables::add_norms(const KernelTable& kernels, LaneMemory& memory) {
  const auto& places = placement_.slices;
  const auto needs = [&](const SlicePlace& place) {
    return needs_norms(keys_[place.declaration].declaration.spec.optimizer);
  };
  std::vector<std::uint32_t> with_norms;  // in the order of the tensors
  std::uint64_t elements = 0;
  for (std::uint32_t i = 0; i < places.size(); ++i) {
    if (!needs(places[i])) continue;
    with_norms.push_back(i);
    elements += round_up(places[i].elements.count);
  }
  std::sort(with_norms.begin(), with_norms.end(), [&](std::uint32_t a, std::uint32_t b) {
    return places[a].elements.begin < places[b].elements.begin;
  });
  if (device_) elements = 0;
  PENSTOCK_ASSIGN_OR_RETURN(sums_, memory.parameters().allocate(elements * sizeof(float)));
  auto* sums = reinterpret_cast<float*>(sums_.bytes().data());
  for (const std::uint32_t i : with_norms) {
    const SlicePlace& place = places[i];
    KeyTable& key = keys_[place.declaration];
    const TensorSpec& spec = key.declaration.spec;
    if (key.norms == nullptr)
      key.norms =
          std::make_unique<NormTable>(NormTable{key.declaration.key,
                                                NormStep(spec.optimizer, spec.shape, kernels),
                                                false,
                                                spec.optimizer.clip_global_norm > 0,
                                                {},
                                                {},
                                                {},
                                                {}});
    NormTable& table = *key.norms;
    NormSlice slice;
    slice.count = place.elements.count;
    slice.first = place.elements.begin;
    if (!device_) {  // which has arrays of its own
      slice.sums = sums;
      slice.parameters = parameters(storage(i));
      for (std::uint32_t plane = 0; plane < state_planes(spec.optimizer); ++plane)
        slice.state[plane] = state(storage(i), plane);
      slice.wire = wire(storage(i), spec.parameter_dtype);
      slice.wire_dtype = spec.parameter_dtype;
      sums += round_up(slice.count);
    }
    table.slices.push_back(slice);
    table.places.push_back(i);
    table.lane_slices.push_back(place.slice);
    table.parts.emplace_back();
  }
  for (KeyTable& key : keys_) {
    if (key.norms == nullptr) continue;
    std::uint64_t here = 0;
    for (const NormSlice& slice : key.norms->slices) here += slice.count;
    key.norms->whole = here == key.declaration.spec.elements();
  }
  return {};
}

}  // namespace penstock

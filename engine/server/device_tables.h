// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a GPU lane keeps of a batch in the GPU's memory: masters, state, outgoing copies, the parked
// sums of slices that have some (topk gradients, optimizers with norms) and, unless gradients
// arrive there, a slot for each worker's gradient of each slice. What peers read, and else write,
// is pinned host memory, whose slots of both parities are the double buffer: one round is copied in
// while the next arrives. All addresses are the device's.

#include "engine/protocol/limits.h"
#include "engine/protocol/shard_map.h"
#include "engine/protocol/storage.h"
#include "engine/runtime/slab_pool.h"

namespace penstock {

class DeviceTables {
 public:
  // kExhausted when the device has no more memory.
  static Result<DeviceTables> create(std::span<const Declaration> batch,
                                     const LanePlacement& placement, const LaneStorage& storage,
                                     SlabPool& memory) {
    DeviceTables self;
    std::uint64_t sums = 0;
    for (const SlicePlace& place : placement.slices) {
      const bool parked = parks_sums(batch[place.declaration].spec);
      self.first_sum_.push_back(parked ? sums : kNoSums);
      if (parked)
        sums += (place.elements.count + kSliceAlignment - 1) / kSliceAlignment * kSliceAlignment;
    }
    PENSTOCK_ASSIGN_OR_RETURN(self.sums_, memory.allocate(sums * sizeof(float)));
    self.state_ = storage.elements * sizeof(float);
    self.slots_bytes_ = placement.slots_bytes / 2;  // one parity
    PENSTOCK_ASSIGN_OR_RETURN(self.arrays_, memory.allocate(self.state_ + storage.state_bytes));
    PENSTOCK_ASSIGN_OR_RETURN(self.wire_, memory.allocate(storage.wire_bytes));
    return self;
  }
  Status add_worker(SlabPool& memory) {
    PENSTOCK_ASSIGN_OR_RETURN(SlabRange slots, memory.allocate(slots_bytes_));
    slots_.push_back(std::move(slots));
    return {};
  }

  float* parameters(const SliceStorage& at) const { return arrays() + at.first; }
  void* state(const SliceStorage& at, std::uint32_t plane) const {
    return arrays_.bytes().data() + state_ + at.state[plane];
  }
  // Of the slice of this index in the placement; nullptr where nothing is parked.
  float* sums(std::size_t index) const {
    if (first_sum_[index] == kNoSums) return nullptr;
    return reinterpret_cast<float*>(sums_.bytes().data()) + first_sum_[index];
  }
  // As LaneTables::wire().
  void* wire(const SliceStorage& at, DType dtype) const {
    return dtype == DType::kFloat32 ? nullptr : wire_.bytes().data() + at.wire_offset;
  }
  std::byte* slot(Rank worker, const SlicePlace& place) const {
    return slots_[worker].bytes().data() + place.slot_offset / 2;
  }
  std::uint64_t bytes() const {
    return arrays_.bytes().size() + wire_.bytes().size() + sums_.bytes().size() +
           slots_.size() * slots_bytes_;
  }

 private:
  static constexpr std::uint64_t kNoSums = UINT64_MAX;
  static bool parks_sums(const TensorSpec& spec) {
    return needs_norms(spec.optimizer) || spec.codec.kind == CodecKind::kTopK;
  }
  float* arrays() const { return reinterpret_cast<float*>(arrays_.bytes().data()); }

  std::uint64_t state_ = 0;  // bytes of the masters, before the state
  std::uint64_t slots_bytes_ = 0;
  SlabRange arrays_;  // masters, then state
  SlabRange wire_;    // empty where all parameters are float32
  SlabRange sums_;
  std::vector<std::uint64_t> first_sum_;  // [slice of the placement], in elements
  std::vector<SlabRange> slots_;          // [worker]
};

}  // namespace penstock

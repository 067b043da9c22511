// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one committed declaration batch needs on one lane: parameters, state and outgoing copies of
// the lane's slices, and every worker's slots, carved from the lane's slabs. Allocated by the
// control loop, then handed to the lane, which owns it until its last key is removed.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/protocol/shard_map.h"
#include "engine/protocol/storage.h"
#include "engine/server/device_tables.h"
#include "engine/server/lane_memory.h"
#include "engine/server/norm_table.h"

namespace penstock {

// One key of the batch, as far as this lane holds slices of it.
struct KeyTable {
  Declaration declaration;
  std::uint32_t slices = 0;         // of this key on this lane, not yet removed
  std::uint32_t first_slice = 0;    // the index of one of them
  Round folded_for = 0;             // the round `coefficients` belong to; 0 is none
  std::uint64_t earlier_steps = 0;  // before round 1, of a state that was put back
  Coefficients coefficients{};
  std::unique_ptr<NormTable> norms = nullptr;  // of an optimizer that needs norms
};

class LaneTables {
 public:
  // Takes all memory, registered. It holds zeros or what a removed key left: round 0 fills
  // parameters and state. `memory` outlives the tables. kExhausted naming the batch's size.
  static Result<std::unique_ptr<LaneTables>> create(std::uint64_t order,
                                                    std::span<const Declaration> batch,
                                                    const LanePlacement& placement,
                                                    LaneMemory& memory);

  // Adds what keys whose optimizer needs norms take. Once, before the lane has the tables.
  Status add_norms(const KernelTable& kernels, LaneMemory& memory);

  std::uint64_t order() const { return order_; }
  const LanePlacement& placement() const { return placement_; }
  const SliceStorage& storage(std::size_t index) const { return storage_.slices[index]; }
  std::vector<KeyTable>& keys() { return keys_; }
  const std::vector<KeyTable>& keys() const { return keys_; }

  // On a GPU server: where the arithmetic happens. There is no state here then, and parameters()
  // and wire() are what the workers receive, copied from there.
  const DeviceTables* device() const { return device_ ? &*device_ : nullptr; }

  float* parameters(const SliceStorage& at) const { return arrays() + at.first; }
  void* state(const SliceStorage& at, std::uint32_t plane) const {
    return arrays_.bytes().data() + storage_.elements * sizeof(float) + at.state[plane];
  }
  // The copy that workers receive: the masters themselves for float32.
  void* wire(const SliceStorage& at, DType dtype) const;
  const MemoryRegion& outgoing(DType dtype) const;
  std::uint64_t outgoing_offset(const SliceStorage& at, DType dtype) const;  // in that region
  // The masters and the outgoing copies as workers may map them; the second is empty without any.
  RemoteBuffer masters() const { return arrays_.describe(); }
  RemoteBuffer copies() const { return wire_.describe(); }

  std::byte* slot(Rank worker, const SlicePlace& place, Round round) const {
    return slots_[worker].bytes().data() + place.slot_offset + (round & 1U) * place.slot_bytes;
  }
  RemoteBuffer slots(Rank worker) const { return slots_[worker].describe(); }
  // Whether slot() is an address of the GPU's; flush_slots() then comes before a kernel reads what
  // arrived in anybody's.
  bool arrives_on_device(Rank worker) const {
    return slots_[worker].region().kind() == MemoryKind::kCuda;
  }
  Status flush_slots(Rank worker) const { return slots_[worker].region().flush(); }

  // What one worker lent for this batch; [declaration], empty before it did.
  struct Lent {
    std::vector<RemoteBuffer> parameters;
    std::vector<RemoteBuffer> gradients;
    std::vector<std::uint8_t> views;  // 1: it reads the parameters here, in place
    std::vector<std::shared_ptr<RemoteMapping>> mapped;  // its gradients; null where they are not
  };
  std::vector<Lent> lent;  // [worker]

  // The worker's own gradient of the slice, of a key that is mapped.
  const std::byte* mapped_gradient(Rank worker, const SlicePlace& place) const {
    const Lent& from = lent[worker];
    const std::size_t element_bytes =
        dtype_bytes(keys_[place.declaration].declaration.spec.gradient_dtype);
    return from.mapped[place.declaration]->bytes().data() +
           from.gradients[place.declaration].offset + place.elements.begin * element_bytes;
  }

  // Slices whose last sum was not finite, [index]: the updater sets it, the lane takes it back.
  std::vector<std::uint8_t> not_finite;

  std::uint64_t memory_bytes() const;  // parameters, state, outgoing copies, sums and slots

 private:
  LaneTables() = default;
  Status take_memory(LaneMemory& memory);
  float* arrays() const { return reinterpret_cast<float*>(arrays_.bytes().data()); }

  std::uint64_t order_ = 0;
  LanePlacement placement_;
  LaneStorage storage_;
  std::vector<KeyTable> keys_;
  SlabRange arrays_;              // masters, then state
  SlabRange wire_;                // empty where all parameters are float32
  std::vector<SlabRange> slots_;  // [worker]
  SlabRange sums_;                // parked sums of keys with norms
  std::optional<DeviceTables> device_;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/lane_tables.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/protocol/limits.h"

namespace penstock {

Result<std::unique_ptr<LaneTables>> LaneTables::create(std::uint64_t order,
                                                       std::span<const Declaration> batch,
                                                       const LanePlacement& placement,
                                                       LaneMemory& memory) {
  std::unique_ptr<LaneTables> self(new LaneTables());
  self->order_ = order;
  self->placement_ = placement;
  self->storage_ = lay_out(batch, placement);
  self->lent.resize(memory.workers());
  self->not_finite.resize(placement.slices.size());
  for (const Declaration& declaration : batch)
    self->keys_.push_back({declaration, 0, 0, 0, 0, {}, nullptr});
  for (const SlicePlace& place : placement.slices) {
    ++self->keys_[place.declaration].slices;
    self->keys_[place.declaration].first_slice = place.slice;
  }
  if (Status taken = self->take_memory(memory); !taken.ok()) return taken;
  return self;
}

Status LaneTables::take_memory(LaneMemory& memory) {
  if (SlabPool* const device = memory.device()) {
    PENSTOCK_ASSIGN_OR_RETURN(device_, DeviceTables::create(placement_, storage_, *device));
  }
  const std::uint64_t array_bytes =
      storage_.elements * sizeof(float) + (device_ ? 0 : storage_.state_bytes);
  PENSTOCK_ASSIGN_OR_RETURN(arrays_, memory.parameters().allocate(array_bytes));
  PENSTOCK_ASSIGN_OR_RETURN(wire_, memory.parameters().allocate(storage_.wire_bytes));
  slots_.resize(memory.workers());
  for (Rank worker = 0; worker < memory.workers(); ++worker) {
    PENSTOCK_ASSIGN_OR_RETURN(slots_[worker],
                              memory.slots(worker).allocate(placement_.slots_bytes));
    if (device_ && !arrives_on_device(worker))
      PENSTOCK_RETURN_IF_ERROR(device_->add_worker(*memory.device()));
  }
  return {};
}

void* LaneTables::wire(const SliceStorage& at, DType dtype) const {
  return dtype == DType::kFloat32 ? nullptr : wire_.bytes().data() + at.wire_offset;
}

const MemoryRegion& LaneTables::outgoing(DType dtype) const {
  return dtype == DType::kFloat32 ? arrays_.region() : wire_.region();
}

std::uint64_t LaneTables::outgoing_offset(const SliceStorage& at, DType dtype) const {
  return dtype == DType::kFloat32 ? arrays_.offset() + at.first * sizeof(float)
                                  : wire_.offset() + at.wire_offset;
}

std::uint64_t LaneTables::memory_bytes() const {
  std::uint64_t bytes = storage_.elements * sizeof(float) + storage_.wire_bytes +
                        slots_.size() * placement_.slots_bytes + sums_.bytes().size() +
                        (device_ ? device_->bytes() : storage_.state_bytes);
  for (const KeyTable& key : keys_)
    if (key.norms != nullptr) bytes += key.norms->step.memory_bytes();
  return bytes;
}

}  // namespace penstock

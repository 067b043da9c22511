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
                                                       std::uint32_t workers, Device& device) {
  std::unique_ptr<LaneTables> self(new LaneTables());
  self->order_ = order;
  self->placement_ = placement;
  self->storage_ = lay_out(batch, placement);
  self->lent.resize(workers);
  for (const Declaration& declaration : batch) self->keys_.push_back({declaration, 0, 0, 0, {}});
  for (const SlicePlace& place : placement.slices) {
    const TensorSpec& spec = batch[place.declaration].spec;
    self->planes_ = std::max(self->planes_, state_planes(spec.optimizer));
    ++self->keys_[place.declaration].slices;
    self->keys_[place.declaration].first_slice = place.slice;
  }
  if (Status taken = self->take_memory(workers, device); !taken.ok()) return taken;
  return self;
}

Status LaneTables::take_memory(std::uint32_t workers, Device& device) {
  const std::uint64_t array_bytes = (1 + planes_) * storage_.elements * sizeof(float);
  PENSTOCK_ASSIGN_OR_RETURN(arrays_, device.allocate_memory(array_bytes, Access::kMap));
  if (storage_.wire_bytes > 0) {
    PENSTOCK_ASSIGN_OR_RETURN(wire_, device.allocate_memory(storage_.wire_bytes, Access::kMap));
  }
  slots_.resize(workers);
  for (Rank worker = 0; worker < workers; ++worker) {
    PENSTOCK_ASSIGN_OR_RETURN(slots_[worker],
                              device.allocate_memory(placement_.slots_bytes, Access::kRemoteWrite,
                                                     scope_of_worker(worker)));
  }
  return {};
}

void* LaneTables::wire(const SliceStorage& at, DType dtype) const {
  return dtype == DType::kFloat32 ? nullptr : wire_->bytes().data() + at.wire_offset;
}

const MemoryRegion& LaneTables::outgoing(DType dtype) const {
  return dtype == DType::kFloat32 ? *arrays_ : *wire_;
}

std::uint64_t LaneTables::outgoing_offset(const SliceStorage& at, DType dtype) const {
  return dtype == DType::kFloat32 ? at.first * sizeof(float) : at.wire_offset;
}

std::uint64_t LaneTables::memory_bytes() const {
  return (1 + planes_) * storage_.elements * sizeof(float) + storage_.wire_bytes +
         slots_.size() * placement_.slots_bytes;
}

}  // namespace penstock

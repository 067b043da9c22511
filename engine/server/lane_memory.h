// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The slabs of one lane. Per lane, so that a page belongs to the lane that touches it first and
// lies on its NUMA node; per set of peers within it. Made by the control loop; outlives the lane.

#include <deque>
#include <optional>

#include "engine/gpu/compute_regions.h"
#include "engine/runtime/slab_pool.h"

namespace penstock {

// Who computes, and where gradients arrive then.
struct ComputePlacement {
  ComputeDevice* device = nullptr;  // nullptr: this processor
  bool direct = false;              // in the device's memory, else in pinned host memory
};

class LaneMemory {
 public:
  LaneMemory(std::uint32_t workers, Device& device, const ComputePlacement& compute = {})
      : parameters_(staged(device, compute), Access::kMap) {
    for (Rank worker = 0; worker < workers; ++worker)
      slots_.emplace_back(
          compute.direct ? lent_compute_regions(device, *compute.device) : staged(device, compute),
          Access::kRemoteWrite, scope_of_worker(worker));
    if (compute.device != nullptr)
      device_.emplace(compute_regions(*compute.device), Access::kLocal);
  }

  // Masters, state and outgoing copies: any worker may map them.
  SlabPool& parameters() { return parameters_; }
  // What one worker alone may write, also after it left: never another's.
  SlabPool& slots(Rank worker) { return slots_[worker]; }
  // Memory of the device that computes; nullptr where this processor does.
  SlabPool* device() { return device_ ? &*device_ : nullptr; }
  std::uint64_t registered_bytes() const {
    std::uint64_t bytes = parameters_.slab_bytes();
    for (const SlabPool& slots : slots_) bytes += slots.slab_bytes();
    return bytes;
  }
  std::uint32_t workers() const { return static_cast<std::uint32_t>(slots_.size()); }

 private:
  static RegionSource staged(Device& device, const ComputePlacement& compute) {
    if (compute.device != nullptr) return pinned_regions(device, *compute.device);
    return [&device](std::size_t bytes, Access access, PeerScope scope) {
      return device.allocate_memory(bytes, access, scope);
    };
  }

  SlabPool parameters_;
  std::deque<SlabPool> slots_;  // [worker]
  std::optional<SlabPool> device_;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The slabs of one lane. Per lane, so that a page belongs to the lane that touches it first and
// lies on its NUMA node; per set of peers within it. Made by the control loop; outlives the lane.

#include <deque>

#include "engine/runtime/slab_pool.h"

namespace penstock {

class LaneMemory {
 public:
  LaneMemory(std::uint32_t workers, Device& device) : parameters_(device, Access::kMap) {
    for (Rank worker = 0; worker < workers; ++worker)
      slots_.emplace_back(device, Access::kRemoteWrite, scope_of_worker(worker));
  }

  // Masters, state and outgoing copies: any worker may map them.
  SlabPool& parameters() { return parameters_; }
  // What one worker alone may write, also after it left: never another's.
  SlabPool& slots(Rank worker) { return slots_[worker]; }
  std::uint64_t registered_bytes() const {
    std::uint64_t bytes = parameters_.slab_bytes();
    for (const SlabPool& slots : slots_) bytes += slots.slab_bytes();
    return bytes;
  }
  std::uint32_t workers() const { return static_cast<std::uint32_t>(slots_.size()); }

 private:
  SlabPool parameters_;
  std::deque<SlabPool> slots_;  // [worker]
};

}  // namespace penstock

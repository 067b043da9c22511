// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine/server/lane_tables.h"
#include "kernels/table.h"

namespace penstock {

// One slice ready to be updated.
struct SliceUpdate {
  LaneTables& tables;
  std::size_t index = 0;  // in the placement
  Round round = 0;
  std::uint64_t contributors = 0;  // workers whose gradient is to be added
  std::uint64_t in_place = 0;      // of those, the ones to read in the worker's own buffer
  std::uint32_t live = 0;          // workers a mean divides by
  std::uint32_t workers = 0;       // of the job: ranks 0 … workers−1
};

// Round 0: fills the masters from worker 0's slot or from the key's initializer. Later rounds: one
// fused pass over the contributors' slots in rank order. Both leave the outgoing copy ready.
// Thread: the lane's. Allocates nothing.
void update_slice(const SliceUpdate& update, const KernelTable& kernels);

}  // namespace penstock

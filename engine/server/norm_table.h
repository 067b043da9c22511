// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One lane's slices of a key whose optimizer needs norms, and how far their update is; and what the
// lane and the control loop tell each other about it.
//
// A table belongs to the lane, except between NormReady and its NormCombined: then the control loop
// may read `parts`, `key` and `round`, and the lane touches nothing. Its slices are being updated
// all that time, so the lane keeps the tables.

#include <cstdint>
#include <vector>

#include "engine/protocol/types.h"
#include "engine/runtime/waker.h"
#include "kernels/norm_step.h"
#include "transport/base/ring.h"

namespace penstock {

// What is exchanged: after the sums, and after the direction.
inline constexpr std::uint8_t kSumStage = 0;
inline constexpr std::uint8_t kDirectionStage = 1;
inline constexpr std::uint8_t kNormStages = 2;

class LaneTables;

struct NormTable {
  enum class Phase : std::uint8_t { kSum, kFactor, kDirection, kApply };

  Key key = 0;
  NormStep step;
  bool whole = false;                      // the lane has every slice of the tensor
  bool grouped = false;                    // it is clipped by the norm of several tensors
  std::vector<NormSlice> slices;           // in the tensor's order, as all below
  std::vector<std::uint32_t> places;       // index in the placement
  std::vector<std::uint32_t> lane_slices;  // index in the lane
  std::vector<NormSums> parts;             // of the pass that goes on

  Phase phase = Phase::kSum;
  bool open = false;  // a round is under way: this one
  Round round = 0;
  std::uint64_t earlier_steps = 0;  // as the key's
  std::uint32_t next = 0;           // slices through the pass
  NormTable* behind = nullptr;      // in the updater's queue
  LaneTables* tables = nullptr;     // whose slices these are, where a GPU has them
};

// Lane → control loop: its `parts` of this stage are there.
struct NormReady {
  NormTable* table = nullptr;
  std::uint8_t stage = 0;
};

// Control loop → lane.
struct NormCombined {
  NormTable* table = nullptr;
  std::uint8_t stage = 0;
  NormSums tensor;
  double group = 0;  // Σg² of all tensors that are clipped together
};

struct NormRings {
  static constexpr std::size_t kCapacity = 4096;  // more wait at their sender
  Ring<NormReady> ready{kCapacity};
  Ring<NormCombined> combined{kCapacity};
  Waker* lane = nullptr;
};

}  // namespace penstock

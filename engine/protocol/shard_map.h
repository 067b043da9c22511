// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which server and lane own each slice: a pure function of the roster's size and of the
// declarations in their committed order, so that every process computes the same without asking.
//
// Placement: slices of a batch, largest first (then by key order and position), each to the lane
// with the fewest bytes; ties to the lowest server within the lowest lane, so that a single tensor
// spreads over servers before it spreads over lanes. A tensor that must lie on one lane counts as
// one slice here.

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "engine/protocol/slice.h"
#include "engine/protocol/tensor_spec.h"

namespace penstock {

// One slice on its lane, as both sides see it.
struct SlicePlace {
  std::uint32_t declaration = 0;  // index in the batch
  std::uint32_t slice = 0;        // index in the lane: what the immediate carries
  Slice elements;                 // of the tensor
  std::uint64_t slot_offset = 0;  // bytes from the start of this worker's slots of the batch
  std::uint64_t slot_bytes = 0;   // one slot; parity 1 follows parity 0
};

struct LanePlacement {
  std::vector<SlicePlace> slices;
  std::uint64_t slots_bytes = 0;  // both parities of all slices, for one worker
};

// lanes[server * lanes_per_server + lane]
struct Placement {
  std::vector<LanePlacement> lanes;
};

class ShardMap {
 public:
  ShardMap(std::uint32_t servers, std::uint32_t lanes_per_server, std::uint64_t slice_bytes);

  // Places a batch. kUnsupported without servers, kAlreadyExists if a key is declared, kExhausted
  // past kMaxSlicesPerLane.
  Result<Placement> add(std::span<const Declaration> batch);

  // Frees the key's slice indices and load. kNotFound.
  Status remove(Key key);

  bool contains(Key key) const { return keys_.contains(key); }
  std::uint32_t servers() const { return servers_; }
  std::uint32_t lanes() const { return lanes_; }

 private:
  struct Lane {
    std::uint64_t bytes = 0;
    std::uint32_t next_slice = 0;
    std::vector<std::uint32_t> free_slices;  // last freed, first used
  };
  struct Owned {
    std::uint32_t lane;
    std::uint32_t slice;
    std::uint64_t bytes;
  };
  std::uint32_t least_loaded() const;

  const std::uint32_t servers_;
  const std::uint32_t lanes_;
  const std::uint64_t slice_bytes_;
  std::vector<Lane> table_;
  std::map<Key, std::vector<Owned>> keys_;
};

}  // namespace penstock

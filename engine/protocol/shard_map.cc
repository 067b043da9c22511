// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/protocol/shard_map.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/protocol/limits.h"
#include "transport/base/check.h"

namespace penstock {
namespace {

struct Piece {
  std::uint32_t declaration;
  Slice elements;
  std::uint64_t bytes;
  std::uint64_t placed_bytes;  // of what goes to one lane with it
};

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::vector<Piece> cut_batch(std::span<const Declaration> batch, std::uint64_t slice_bytes) {
  std::vector<Piece> pieces;
  for (std::uint32_t i = 0; i < batch.size(); ++i) {
    const std::uint64_t element_bytes = batch[i].spec.slice_element_bytes();
    const std::uint64_t whole = batch[i].spec.elements() * element_bytes;
    for (const Slice& slice : cut(batch[i].spec.elements(), element_bytes, slice_bytes)) {
      const std::uint64_t bytes = slice.count * element_bytes;
      pieces.push_back({i, slice, bytes, batch[i].spec.on_one_lane() ? whole : bytes});
    }
  }
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.placed_bytes > b.placed_bytes; });
  return pieces;
}

}  // namespace

ShardMap::ShardMap(std::uint32_t servers, std::uint32_t lanes_per_server, std::uint64_t slice_bytes)
    : servers_(servers), lanes_(lanes_per_server), slice_bytes_(slice_bytes) {
  CHECK(servers <= kMaxJobServers && lanes_ > 0 && lanes_ <= kMaxLanes);
  table_.resize(std::size_t{servers} * lanes_per_server);
}

// Scans lane by lane across the servers, so that ties go to another server first.
std::uint32_t ShardMap::least_loaded() const {
  std::uint32_t best = 0;
  for (std::uint32_t lane = 0; lane < lanes_; ++lane)
    for (std::uint32_t server = 0; server < servers_; ++server) {
      const std::uint32_t index = server * lanes_ + lane;
      if (table_[index].bytes < table_[best].bytes) best = index;
    }
  return best;
}

Result<Placement> ShardMap::add(std::span<const Declaration> batch) {
  for (const Declaration& declaration : batch)
    if (contains(declaration.key))
      return Status(Code::kAlreadyExists,
                    fmt::format("{} is declared already", describe(declaration)));
  if (table_.empty()) return Status(Code::kUnsupported, "this job has no servers");
  const std::vector<Piece> pieces = cut_batch(batch, slice_bytes_);
  if (pieces.size() > kMaxSlicesPerLane / 2)
    return Status(Code::kExhausted, fmt::format("{} slices in one declaration", pieces.size()))
        .with_hint("use larger slices (--slice)");

  Placement placement;
  placement.lanes.resize(table_.size());
  std::map<std::uint32_t, std::uint32_t> homes;  // declaration → lane, of those on one lane
  for (const Piece& piece : pieces) {
    std::uint32_t index = least_loaded();
    if (batch[piece.declaration].spec.on_one_lane())
      index = homes.emplace(piece.declaration, index).first->second;
    Lane& lane = table_[index];
    LanePlacement& placed = placement.lanes[index];
    std::uint32_t slice = lane.next_slice;
    if (lane.free_slices.empty()) {
      ++lane.next_slice;
    } else {
      slice = lane.free_slices.back();
      lane.free_slices.pop_back();
    }
    const std::uint64_t slot_bytes =
        round_up(batch[piece.declaration].spec.slot_bytes(piece.elements.count), 64);
    placed.slices.push_back(
        {piece.declaration, slice, piece.elements, placed.slots_bytes, slot_bytes});
    placed.slots_bytes += 2 * slot_bytes;
    lane.bytes += piece.bytes;
    keys_[batch[piece.declaration].key].push_back({index, slice, piece.bytes});
  }
  return placement;
}

Status ShardMap::remove(Key key) {
  const auto found = keys_.find(key);
  if (found == keys_.end())
    return Status(Code::kNotFound, fmt::format("key {} is not declared", key));
  for (const Owned& owned : found->second) {
    table_[owned.lane].bytes -= owned.bytes;
    table_[owned.lane].free_slices.push_back(owned.slice);
  }
  keys_.erase(found);
  return {};
}

}  // namespace penstock

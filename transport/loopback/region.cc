// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/region.h"

namespace penstock::loopback {

Result<std::uint64_t> RegionTable::add(std::span<std::byte> bytes, Access access, PeerScope scope,
                                       std::shared_ptr<const HostMemory> memory) {
  MutexLock lock(mutex_);
  if (free_.empty()) {
    if (owned_.size() == chunks_.size())
      return Status(Code::kExhausted, "registering memory: every region of the device is taken");
    const auto first = static_cast<std::uint32_t>(owned_.size() * kChunk);
    owned_.push_back(std::make_unique<Chunk>());
    chunks_[owned_.size() - 1].store(owned_.back().get(), std::memory_order_release);
    for (std::uint32_t i = kChunk; i > 0; --i) free_.push_back(first + i - 1);
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  RegionEntry& region = *entry(index);
  region.key = ++generation_ << 16 | index;
  region.bytes = bytes;
  region.access = access;
  region.scope = scope;
  region.memory = std::move(memory);
  live_.fetch_add(1, std::memory_order_relaxed);
  const std::uint64_t key = region.key;
  region.gate.reopen();
  return key;
}

void RegionTable::remove(std::uint64_t key) {
  const auto index = static_cast<std::uint32_t>(key % kMaxRegions);
  RegionEntry& region = *entry(index);
  region.gate.close();
  MutexLock lock(mutex_);
  CHECK(region.key == key, "region {} deregistered twice", key);
  region.key = 0;
  region.memory.reset();
  free_.push_back(index);
  live_.fetch_sub(1, std::memory_order_relaxed);
}

RegionEntry* RegionTable::enter(std::uint64_t key) {
  RegionEntry* region = entry(key % kMaxRegions);
  if (region == nullptr || !region->gate.enter()) return nullptr;
  if (region->key == key) return region;
  region->gate.leave();
  return nullptr;
}

RegionEntry* RegionTable::entry(std::size_t index) {
  Chunk* chunk = chunks_[index / kChunk].load(std::memory_order_acquire);
  return chunk == nullptr ? nullptr : &(*chunk)[index % kChunk];
}

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Registered memory of one device: a table that peers' threads look keys up in without a lock, and
// the resource that keeps one entry alive.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/host_memory.h"
#include "transport/base/thread_annotations.h"
#include "transport/loopback/gate.h"

namespace penstock::loopback {

inline constexpr std::size_t kKeySlot = key_slot(ProviderKind::kLoopback);

// All but the gate is written only while the gate is closed.
struct RegionEntry {
  Gate gate{false};
  std::uint64_t key = 0;
  std::span<std::byte> bytes;
  Access access{};
  PeerScope scope = kAnyScope;
  std::shared_ptr<const HostMemory> memory;  // of allocate_memory(): what a mapping keeps alive
};

// Thread: all functions from any thread; enter() takes no lock.
class RegionTable {
 public:
  static constexpr std::size_t kMaxRegions = 65536;  // as many as a small NIC has memory keys

  // Returns the key, or kExhausted.
  Result<std::uint64_t> add(std::span<std::byte> bytes, Access access, PeerScope scope,
                            std::shared_ptr<const HostMemory> memory = nullptr);
  // When it returns no visitor is inside the entry and none will be.
  void remove(std::uint64_t key);
  // The entry of `key`, held until its gate is left; null when it is not registered (any more).
  RegionEntry* enter(std::uint64_t key);
  std::size_t live() const { return live_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kChunk = 256;
  using Chunk = std::array<RegionEntry, kChunk>;

  RegionEntry* entry(std::size_t index);

  Mutex mutex_;
  std::vector<std::unique_ptr<Chunk>> owned_ GUARDED_BY(mutex_);
  std::vector<std::uint32_t> free_ GUARDED_BY(mutex_);
  std::uint64_t generation_ GUARDED_BY(mutex_) = 0;  // key = generation << 16 | index
  // A chunk is published with release once its entries exist; pairs with entry()'s load.
  std::array<std::atomic<Chunk*>, kMaxRegions / kChunk> chunks_{};
  std::atomic<std::size_t> live_{0};
};

class LoopbackMapping final : public RemoteMapping {
 public:
  LoopbackMapping(std::span<std::byte> bytes, std::shared_ptr<const HostMemory> memory)
      : bytes_(bytes), memory_(std::move(memory)) {}
  std::span<std::byte> bytes() const override { return bytes_; }

 private:
  const std::span<std::byte> bytes_;
  const std::shared_ptr<const HostMemory> memory_;
};

class LoopbackRegion final : public MemoryRegion {
 public:
  LoopbackRegion(RegionTable& table, std::span<std::byte> bytes, const RemoteRegion& description)
      : table_(table), bytes_(bytes), description_(description) {}
  ~LoopbackRegion() override { table_.remove(description_.key[kKeySlot]); }
  std::span<std::byte> bytes() const override { return bytes_; }
  const RemoteRegion& describe() const override { return description_; }

 private:
  RegionTable& table_;
  const std::span<std::byte> bytes_;
  const RemoteRegion description_;
};

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Registered memory in few large regions. Registering takes system calls, and a NIC looks up few
// regions faster than many, so what is declared over time is carved from slabs. A slab is as large
// as what was asked for or as all others together, up to kMaxGrowthBytes; one that is empty is
// given back to the system.
//
// All ranges of a pool have one access and one scope, so the peers that may reach a range may reach
// what is carved there next, and nobody else ever does: one pool for each set of peers.

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/protocol/types.h"
#include "engine/runtime/free_ranges.h"
#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

class SlabRange;

// Where slabs come from: a region of this many bytes, which peers of the scope may reach so.
using RegionSource =
    std::function<Result<std::unique_ptr<MemoryRegion>>(std::size_t, Access, PeerScope)>;

// Threads: any; nobody waits while another registers or deregisters. Outlives its ranges.
class SlabPool {
 public:
  // Ranges start on this many bytes and take multiples of it: the usual payload of one PCIe write,
  // and four cache lines, so that no two ranges share what two cores or a NIC move as one.
  static constexpr std::uint64_t kAlignment = 256;
  // Small jobs stay small: sixteen plain pages.
  static constexpr std::uint64_t kMinSlabBytes = std::uint64_t{64} << 10;
  // What a pool may hold and not use. A server of 64 GiB declared bit by bit has 1000 slabs then.
  static constexpr std::uint64_t kMaxGrowthBytes = std::uint64_t{64} << 20;

  SlabPool(Device& device, Access access, PeerScope scope = kAnyScope)
      : SlabPool([&device](std::size_t bytes, Access how,
                           PeerScope who) { return device.allocate_memory(bytes, how, who); },
                 access, scope) {}
  SlabPool(RegionSource source, Access access, PeerScope scope = kAnyScope)
      : source_(std::move(source)), access_(access), scope_(scope) {}
  ~SlabPool();
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  // `bytes` (0 gives an empty range) of memory that peers of the scope may reach from now on. Holds
  // zeros or what an earlier range left. kExhausted.
  Result<SlabRange> allocate(std::uint64_t bytes);

  std::size_t slabs() const;
  std::uint64_t slab_bytes() const;  // registered, in use or not

 private:
  friend class SlabRange;
  struct Slab {
    std::unique_ptr<MemoryRegion> region;
    FreeRanges free;
  };
  Result<std::unique_ptr<MemoryRegion>> register_slab(std::uint64_t bytes);
  void free(const SlabRange& range);

  const RegionSource source_;
  const Access access_;
  const PeerScope scope_;
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Slab>> slabs_ GUARDED_BY(mutex_);  // oldest first
  std::uint64_t slab_bytes_ GUARDED_BY(mutex_) = 0;
};

// Bytes of a slab, free again when it goes. Thread: one at a time.
class SlabRange {
 public:
  SlabRange() = default;  // empty, of no slab
  SlabRange(SlabRange&& other) noexcept { swap(other); }
  SlabRange& operator=(SlabRange&& other) noexcept {
    swap(other);
    return *this;
  }
  ~SlabRange() {
    if (pool_ != nullptr) pool_->free(*this);
  }

  std::span<std::byte> bytes() const { return bytes_; }
  const MemoryRegion& region() const { return *region_; }  // not of an empty one
  std::uint64_t offset() const { return offset_; }         // in the region
  RemoteBuffer describe() const {
    return region_ == nullptr ? RemoteBuffer{} : RemoteBuffer{region_->describe(), offset_};
  }

 private:
  friend class SlabPool;
  SlabRange(SlabPool& pool, const MemoryRegion& region, std::uint64_t offset, std::uint64_t bytes)
      : pool_(&pool),
        region_(&region),
        offset_(offset),
        bytes_(region.bytes().subspan(offset, bytes)) {}
  void swap(SlabRange& other) {
    std::swap(pool_, other.pool_);
    std::swap(region_, other.region_);
    std::swap(offset_, other.offset_);
    std::swap(bytes_, other.bytes_);
  }

  SlabPool* pool_ = nullptr;
  const MemoryRegion* region_ = nullptr;
  std::uint64_t offset_ = 0;
  std::span<std::byte> bytes_;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/slab_pool.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {
namespace {

constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 56;  // past every address space

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Whole huge pages where that adds an eighth at most.
constexpr std::uint64_t slab_size(std::uint64_t bytes) {
  return round_up(bytes, bytes >= 8 * kHugePage ? kHugePage : SlabPool::kMinSlabBytes);
}

}  // namespace

SlabPool::~SlabPool() {
  MutexLock lock(mutex_);
  CHECK(slabs_.empty(), "{} slabs are in use past their pool", slabs_.size());
}

Result<SlabRange> SlabPool::allocate(std::uint64_t bytes) {
  if (bytes == 0) return SlabRange();
  if (bytes > kMostBytes) return Status(Code::kExhausted, fmt::format("allocate {} bytes", bytes));
  const std::uint64_t taken = round_up(bytes, kAlignment);
  {
    MutexLock lock(mutex_);
    for (const auto& slab : slabs_)
      if (const auto offset = slab->free.take(taken))
        return SlabRange(*this, *slab->region, *offset, bytes);
  }
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<MemoryRegion> region, register_slab(taken));
  const MemoryRegion& where = *region;
  const std::uint64_t size = where.bytes().size();
  auto slab = std::make_unique<Slab>(Slab{std::move(region), FreeRanges(size)});
  slab->free.take(taken);
  MutexLock lock(mutex_);
  slab_bytes_ += size;
  slabs_.push_back(std::move(slab));
  return SlabRange(*this, where, 0, bytes);
}

Result<std::unique_ptr<MemoryRegion>> SlabPool::register_slab(std::uint64_t bytes) {
  const std::uint64_t growth = std::min(slab_bytes(), kMaxGrowthBytes);
  if (growth > bytes) {
    auto grown = source_(slab_size(growth), access_, scope_);
    if (grown.ok()) return grown;  // else what is needed now may still fit
  }
  return source_(slab_size(bytes), access_, scope_);
}

void SlabPool::free(const SlabRange& range) {
  std::unique_ptr<Slab> empty;  // deregistered outside the lock
  MutexLock lock(mutex_);
  const auto slab = std::find_if(slabs_.begin(), slabs_.end(), [&](const auto& candidate) {
    return candidate->region.get() == range.region_;
  });
  (*slab)->free.give(range.offset_, round_up(range.bytes_.size(), kAlignment));
  if (!(*slab)->free.all_free()) return;
  slab_bytes_ -= (*slab)->region->bytes().size();
  empty = std::move(*slab);
  slabs_.erase(slab);
}

std::size_t SlabPool::slabs() const {
  MutexLock lock(mutex_);
  return slabs_.size();
}

std::uint64_t SlabPool::slab_bytes() const {
  MutexLock lock(mutex_);
  return slab_bytes_;
}

}  // namespace penstock

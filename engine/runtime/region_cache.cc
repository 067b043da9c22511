// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/region_cache.h"

#include <algorithm>

namespace penstock {

Result<RegisteredBuffer> RegionCache::acquire(std::span<std::byte> bytes, Access access) {
  MutexLock lock(mutex_);
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  RegisteredBuffer found = find(begin, bytes.size(), access);
  if (found.region != nullptr) return found;
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<MemoryRegion> region,
                            device_.register_memory(bytes, kind_of(bytes.data()), access));
  return RegisteredBuffer{add(std::move(region), access), 0};
}

Result<std::shared_ptr<const MemoryRegion>> RegionCache::allocate(std::size_t bytes,
                                                                  Access access) {
  MutexLock lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<MemoryRegion> region,
                            device_.allocate_memory(bytes, access));
  return add(std::move(region), access);
}

std::uint64_t RegionCache::registrations() const {
  MutexLock lock(mutex_);
  return registrations_;
}

// Regions may overlap, so the search goes back as far as the longest one could begin.
RegisteredBuffer RegionCache::find(std::uintptr_t begin, std::uint64_t bytes, Access access) {
  for (auto entry = entries_.upper_bound(begin); entry != entries_.begin();) {
    --entry;
    const std::uint64_t offset = begin - entry->first;
    if (offset >= longest_) break;
    if (offset > entry->second.bytes || bytes > entry->second.bytes - offset ||
        !covers(entry->second.access, access))
      continue;
    if (auto region = entry->second.region.lock()) return {std::move(region), offset};
  }
  return {};
}

std::shared_ptr<const MemoryRegion> RegionCache::add(std::unique_ptr<MemoryRegion> region,
                                                     Access access) {
  ++registrations_;
  if (entries_.size() >= clean_at_) {
    std::erase_if(entries_, [](const auto& entry) { return entry.second.region.expired(); });
    clean_at_ = std::max(clean_at_, 2 * entries_.size());
  }
  const std::span<std::byte> bytes = region->bytes();
  std::shared_ptr<const MemoryRegion> shared = std::move(region);
  longest_ = std::max<std::uint64_t>(longest_, bytes.size());
  entries_.emplace(reinterpret_cast<std::uintptr_t>(bytes.data()),
                   Entry{bytes.size(), access, shared});
  return shared;
}

}  // namespace penstock

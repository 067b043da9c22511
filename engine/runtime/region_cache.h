// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Registering memory takes system calls and pins pages, so it is done once for each stretch of
// memory: whoever needs bytes inside a region that is registered already shares it. A region goes
// when the last buffer inside it is dropped; nothing is kept behind the owner's back, because
// memory that was freed and mapped anew would still be reachable through the old registration.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>

#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

// Bytes inside a registered region. Keeps it registered.
struct RegisteredBuffer {
  std::shared_ptr<const MemoryRegion> region;
  std::uint64_t offset = 0;
};

// Threads: any.
class RegionCache {
 public:
  // What kind of memory is at an address; empty: all is the host's.
  using KindOf = std::function<MemoryKind(const void*)>;
  explicit RegionCache(Device& device, KindOf kind_of = {})
      : device_(device), kind_of_(std::move(kind_of)) {}
  MemoryKind kind_of(const void* address) const {
    return kind_of_ ? kind_of_(address) : MemoryKind::kHost;
  }

  // All of `bytes` (not empty), with at least `access`: in a region that is there, or in a new one
  // of just these bytes, which must then live as long as the buffer does.
  Result<RegisteredBuffer> acquire(std::span<std::byte> bytes, Access access);
  // New zeroed memory that the transport chose, so that peers on this host can map it.
  Result<std::shared_ptr<const MemoryRegion>> allocate(std::size_t bytes, Access access);

  std::uint64_t registrations() const;  // how often the device was asked

 private:
  struct Entry {
    std::uint64_t bytes = 0;
    Access access{};
    std::weak_ptr<const MemoryRegion> region;
  };
  std::shared_ptr<const MemoryRegion> add(std::unique_ptr<MemoryRegion> region, Access access)
      REQUIRES(mutex_);
  RegisteredBuffer find(std::uintptr_t begin, std::uint64_t bytes, Access access) REQUIRES(mutex_);

  Device& device_;
  const KindOf kind_of_;
  mutable Mutex mutex_;
  std::multimap<std::uintptr_t, Entry> entries_ GUARDED_BY(mutex_);  // by first address
  std::uint64_t longest_ GUARDED_BY(mutex_) = 0;  // bytes of the longest region so far
  std::size_t clean_at_ GUARDED_BY(mutex_) = 64;  // entries at which dead ones are dropped
  std::uint64_t registrations_ GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Registered memory where large messages of one peer land, used again once their owner lets go.
// Sizes are rounded up to powers of two; what lies idle beyond kIdleBytes goes back to the system.

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

class LandingPool : public std::enable_shared_from_this<LandingPool> {
 public:
  static constexpr std::uint64_t kIdleBytes = std::uint64_t{256} << 20;

  struct Landing {
    std::span<std::byte> bytes;
    const MemoryRegion* region = nullptr;  // while the pool is open
    std::shared_ptr<const void> owner;     // keeps the bytes, also past the pool
  };

  LandingPool(Device& device, PeerScope scope);
  ~LandingPool();

  // Any thread; `bytes` ≥ 1. kExhausted when there is no memory.
  Result<Landing> acquire(std::uint64_t bytes);

  // Before the device goes: nothing can land any more. What is out there stays readable.
  void close();

 private:
  struct Block;
  void release(std::unique_ptr<Block> block);

  Device& device_;
  const PeerScope scope_;
  Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  std::uint64_t idle_bytes_ GUARDED_BY(mutex_) = 0;
  std::array<std::vector<std::unique_ptr<Block>>, 64> idle_ GUARDED_BY(mutex_);
  std::vector<Block*> used_ GUARDED_BY(mutex_);
};

}  // namespace penstock

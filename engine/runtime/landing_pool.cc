// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/landing_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace penstock {
namespace {

constexpr std::uint64_t kPage = 4096;

struct Freed {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};

}  // namespace

struct LandingPool::Block {
  std::unique_ptr<std::byte, Freed> memory;
  std::uint64_t bytes = 0;
  std::unique_ptr<MemoryRegion> region;  // goes before the memory
};

LandingPool::LandingPool(Device& device, PeerScope scope) : device_(device), scope_(scope) {}
LandingPool::~LandingPool() = default;

Result<LandingPool::Landing> LandingPool::acquire(std::uint64_t bytes) {
  const std::uint64_t size = std::bit_ceil(std::max(bytes, kPage));
  std::unique_ptr<Block> block;
  {
    MutexLock lock(mutex_);
    auto& idle = idle_[static_cast<std::size_t>(std::countr_zero(size))];
    if (!idle.empty()) {
      block = std::move(idle.back());
      idle.pop_back();
      idle_bytes_ -= size;
    }
  }
  if (block == nullptr) {
    block = std::make_unique<Block>();
    block->memory.reset(static_cast<std::byte*>(std::aligned_alloc(kPage, size)));
    block->bytes = size;
    if (block->memory == nullptr)
      return Status(Code::kExhausted, fmt::format("no memory for a message of {} bytes", bytes));
    PENSTOCK_ASSIGN_OR_RETURN(
        block->region, device_.register_memory({block->memory.get(), size}, MemoryKind::kHost,
                                               Access::kRemoteWrite, scope_));
  }
  Landing landing;
  landing.bytes = {block->memory.get(), bytes};
  landing.region = block->region.get();
  Block* const raw = block.release();
  {
    MutexLock lock(mutex_);
    used_.push_back(raw);
  }
  landing.owner = std::shared_ptr<const void>(raw, [pool = shared_from_this()](Block* back) {
    pool->release(std::unique_ptr<Block>(back));
  });
  return landing;
}

void LandingPool::release(std::unique_ptr<Block> block) {
  MutexLock lock(mutex_);
  std::erase(used_, block.get());
  if (closed_ || idle_bytes_ + block->bytes > kIdleBytes) return;
  idle_bytes_ += block->bytes;
  idle_[static_cast<std::size_t>(std::countr_zero(block->bytes))].push_back(std::move(block));
}

void LandingPool::close() {
  MutexLock lock(mutex_);
  closed_ = true;
  for (auto& idle : idle_) idle.clear();
  for (Block* const block : used_) block->region.reset();
}

}  // namespace penstock

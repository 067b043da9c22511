// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which bytes of this process peers may reach. Registration takes a mutex; the look-up for each
// landing takes none.
//
// A slot's `state` is one word: a valid bit and the number of landings under way. A landing adds
// one, and only if it saw the valid bit in that very step may it read the slot's other fields.
// Removal clears the bit and waits until the count is 0, so afterwards nobody reads the fields or
// touches the bytes.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transport/api/types.h"
#include "transport/base/thread_annotations.h"

namespace penstock::parts {

// A process registers per key and lane: parameters, slots, buffers. Ten thousand keys fit.
inline constexpr std::uint32_t kMaxRegions = 1U << 16;

class RegionTable {
 public:
  explicit RegionTable(Incarnation incarnation, std::uint32_t capacity = kMaxRegions);

  // Any thread. The key is never 0 and, for its random half, cannot be guessed from an older one.
  Result<std::uint64_t> add(std::span<std::byte> bytes, Access access, PeerScope scope);
  // When it returns the key is dead and nothing lands in the bytes. Any thread. For landings that
  // end by themselves and soon.
  void remove(std::uint64_t key);
  // The same in steps, for who has to drive the landings meanwhile: retire() makes the key dead;
  // when landed() says that nothing is under way in the bytes any more, recycle() frees the slot.
  void retire(std::uint64_t key);
  bool landed(std::uint64_t key) const;
  void recycle(std::uint64_t key);

  // Keeps a region from being recycled while it lives. Holds nothing when the key was unknown.
  class Guard {
   public:
    Guard() = default;
    Guard(Guard&& other) noexcept : users_(std::exchange(other.users_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      release();
      users_ = std::exchange(other.users_, nullptr);
      return *this;
    }
    ~Guard() { release(); }
    explicit operator bool() const { return users_ != nullptr; }
    void release() {
      // Pairs with the acquire in landed(): our accesses are over when it sees the count fall.
      if (users_ != nullptr) users_->fetch_sub(1, std::memory_order_release);
      users_ = nullptr;
    }

   private:
    friend class RegionTable;
    explicit Guard(std::atomic<std::uint32_t>* users) : users_(users) {}
    std::atomic<std::uint32_t>* users_ = nullptr;
  };

  struct Request {  // a frame's claim on a region
    Incarnation incarnation = 0;
    std::uint64_t key = 0, offset = 0, length = 0;
    Access wanted = Access::kRemoteWrite;
    PeerScope scope = kAnyScope;  // of the endpoint it came by
  };
  struct Claim {
    Code code = Code::kOk;
    std::span<std::byte> bytes;
    Guard guard;  // keeps the bytes reachable
  };
  // Re-opens a region whose range was resolved before. Any thread, lock-free.
  Guard enter(std::uint64_t key) const;
  // kOk and the bytes, or kStale (owner of another life, region gone) or kAccess (range, direction,
  // scope). Any thread, lock-free.
  Claim resolve(const Request& request) const;

  Incarnation incarnation() const { return incarnation_; }

 private:
  static constexpr std::uint32_t kValid = 1U << 31;

  struct Slot {
    std::atomic<std::uint32_t> state{0};  // kValid | landings under way
    Access access{};
    PeerScope scope = kAnyScope;
    std::uint64_t key = 0;
    std::byte* base = nullptr;
    std::uint64_t length = 0;
  };

  const Incarnation incarnation_;
  const std::uint32_t capacity_;
  const std::unique_ptr<Slot[]> slots_;
  Mutex mutex_;
  std::vector<std::uint32_t> free_ GUARDED_BY(mutex_);
};

}  // namespace penstock::parts

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A bounded queue from one producer thread to one consumer thread: no lock, no allocation after
// construction. Several producers take turns under a lock of their own.

#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <utility>

#include "transport/base/check.h"

namespace penstock {

template <class T>
class Ring {
 public:
  // Capacity in elements, rounded up to a power of two.
  explicit Ring(std::size_t capacity)
      : mask_(std::bit_ceil(capacity) - 1), items_(std::make_unique<T[]>(mask_ + 1)) {
    CHECK(capacity > 0);
  }

  // Producer only. False when full; `item` is untouched then.
  bool push(T&& item) {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) > mask_)
      return false;  // pairs with pop's store
    items_[tail & mask_] = std::move(item);
    tail_.store(tail + 1, std::memory_order_release);  // pairs with pop's load
    return true;
  }

  // Consumer only. False when empty.
  bool pop(T& item) {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return false;  // pairs with push's store
    item = std::move(items_[head & mask_]);
    head_.store(head + 1, std::memory_order_release);  // pairs with push's load
    return true;
  }

  // Producer only: at least this many pushes will succeed.
  std::size_t free() const {
    return mask_ + 1 -
           (tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_acquire));
  }

  // Either side; a hint only.
  bool empty() const {
    return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
  }
  std::size_t capacity() const { return mask_ + 1; }

 private:
  const std::size_t mask_;
  const std::unique_ptr<T[]> items_;
  alignas(64) std::atomic<std::size_t> head_{0};  // owned by the consumer
  alignas(64) std::atomic<std::size_t> tail_{0};  // owned by the producer
};

}  // namespace penstock

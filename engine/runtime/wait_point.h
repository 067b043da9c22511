// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Lets user threads wait, with a deadline, for something that lanes do. notify() costs one load
// while nobody waits, and no system call while who waits does not sleep yet.
//   waiter:   for (;;) { auto seen = point.sequence(); if (condition()) break; point.wait(seen, …);
//   } notifier: make the condition true; point.notify();

#include <atomic>
#include <cstdint>

#include "transport/base/clock.h"

namespace penstock {

class WaitPoint {
 public:
  // Announces a waiter before it looks at its condition for the last time.
  class Waiting {
   public:
    explicit Waiting(WaitPoint& point) : point_(point) {
      point_.waiters_.fetch_add(1, std::memory_order_seq_cst);  // pairs with notify's load
    }
    ~Waiting() { point_.waiters_.fetch_sub(1, std::memory_order_relaxed); }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    WaitPoint& point_;
  };

  std::uint32_t sequence() const { return sequence_.load(std::memory_order_seq_cst); }

  void notify() {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with Waiting's increment
    if (waiters_.load(std::memory_order_relaxed) != 0) wake_all();
  }

  // Returns when notified since `seen`, after `timeout_ns`, or spuriously. Spins before it sleeps.
  void wait(std::uint32_t seen, TimeNs timeout_ns);

 private:
  void wake_all();

  std::atomic<std::uint32_t> sequence_{0};
  std::atomic<std::uint32_t> waiters_{0};
  std::atomic<std::uint32_t> sleepers_{0};
};

}  // namespace penstock

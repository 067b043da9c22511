// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A door that visitors from other threads pass for a moment and that its owner closes for good:
// when close() returns, nobody is inside and nobody will enter. One atomic; visitors never wait.

#include <sched.h>

#include <atomic>
#include <cstdint>

namespace penstock::loopback {

class Gate {
 public:
  explicit Gate(bool open = true) : state_(open ? 0 : kClosed) {}

  // Any thread. False: closed, and there is nothing to leave.
  bool enter() {
    if ((state_.fetch_add(1, std::memory_order_acquire) & kClosed) == 0) return true;
    leave();
    return false;
  }
  void leave() { state_.fetch_sub(1, std::memory_order_release); }  // pairs with close's load

  // Any thread that is not inside; idempotent. Waits for the visitors, who only copy bytes.
  void close() {
    state_.fetch_or(kClosed, std::memory_order_acq_rel);
    while (state_.load(std::memory_order_acquire) != kClosed) sched_yield();
  }
  // Owner only, after close(): what it wrote before is visible to whoever enters.
  void reopen() { state_.fetch_and(~kClosed, std::memory_order_release); }

 private:
  static constexpr std::uint32_t kClosed = 1U << 31;
  std::atomic<std::uint32_t> state_;  // kClosed | visitors inside
};

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Wakes a loop that sleeps in poll(2). wake() costs one fence and one load while the loop is awake.

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "transport/base/check.h"
#include "transport/base/unique_fd.h"

namespace penstock {

class Waker {
 public:
  Waker() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    CHECK(fd_.valid(), "no file descriptor left for an eventfd; raise RLIMIT_NOFILE");
  }

  // Any thread, after publishing work.
  void wake() {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with prepare's
    if (!sleeping_.load(std::memory_order_relaxed)) return;
    if (!sleeping_.exchange(false, std::memory_order_acq_rel)) return;
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof one);
  }

  // Owner: announces sleep; look for work once more after this.
  void prepare() {
    sleeping_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with wake's
  }

  // Owner: awake again.
  void clear() {
    if (sleeping_.exchange(false, std::memory_order_acq_rel)) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(fd_.get(), &count, sizeof count);
  }

  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  std::atomic<bool> sleeping_{false};
};

}  // namespace penstock

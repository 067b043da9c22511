// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// How a thread waits before it sleeps: to wake a sleeper costs several microseconds, in a virtual
// machine tens of them, and most waits of a busy job are shorter. A spinner looks again and again,
// but lets every other thread run meanwhile; where one took the processor for long, processors are
// scarce, and this thread sleeps at once for a while: no spinner takes time from who has work.
//
//   while (!condition()) if (!spinner.again(clock)) sleep();
//   spinner.found();
//
// Thread: one.

#include <sched.h>

#include "transport/base/clock.h"

namespace penstock {

class Spinner {
 public:
  static constexpr TimeNs kDefaultNs = 50 * kMicrosecond;

  explicit Spinner(TimeNs limit_ns = kDefaultNs) : limit_ns_(limit_ns) {}  // 0: never spins

  void found() { since_ns_ = 0; }

  // False: sleep. Counts from the first call after found() or false.
  bool again(const Clock& clock) {
    if (limit_ns_ == 0) return false;
    const TimeNs now_ns = clock.now_ns();
    if (now_ns < not_before_ns_) return false;
    if (since_ns_ == 0) since_ns_ = now_ns;
    if (now_ns - since_ns_ >= limit_ns_) {
      since_ns_ = 0;
      return false;
    }
    ::sched_yield();
    const TimeNs back_ns = clock.now_ns();
    if (back_ns - now_ns > kLongTurnNs) {
      not_before_ns_ = back_ns + kRestNs;
      since_ns_ = 0;
    }
    return true;
  }

 private:
  // Longer than a thread of ours works between two looks, shorter than the kernel's turns.
  static constexpr TimeNs kLongTurnNs = 500 * kMicrosecond;
  static constexpr TimeNs kRestNs = 100 * kMillisecond;

  const TimeNs limit_ns_;
  TimeNs since_ns_ = 0;
  TimeNs not_before_ns_ = 0;
};

}  // namespace penstock

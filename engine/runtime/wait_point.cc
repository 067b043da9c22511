// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/wait_point.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

#include "engine/runtime/spinner.h"

namespace penstock {

void WaitPoint::wake_all() {
  sequence_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
  ::syscall(SYS_futex, &sequence_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void WaitPoint::wait(std::uint32_t seen, TimeNs timeout_ns) {
  if (timeout_ns <= 0) return;
  const SystemClock clock;
  thread_local Spinner spinner;
  do {
    if (sequence() != seen) return spinner.found();
  } while (timeout_ns > Spinner::kDefaultNs && spinner.again(clock));
  const timespec timeout{timeout_ns / kSecond, timeout_ns % kSecond};
  // Counted before the kernel compares: the notifier sees the sleeper, or the kernel the notice.
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  ::syscall(SYS_futex, &sequence_, FUTEX_WAIT_PRIVATE, seen, &timeout, nullptr, 0);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace penstock

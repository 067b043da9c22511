// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/wait_point.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace penstock {

void WaitPoint::wake_all() {
  sequence_.fetch_add(1, std::memory_order_seq_cst);
  ::syscall(SYS_futex, &sequence_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void WaitPoint::wait(std::uint32_t seen, TimeNs timeout_ns) {
  if (timeout_ns <= 0) return;
  const timespec timeout{timeout_ns / kSecond, timeout_ns % kSecond};
  ::syscall(SYS_futex, &sequence_, FUTEX_WAIT_PRIVATE, seen, &timeout, nullptr, 0);
}

}  // namespace penstock

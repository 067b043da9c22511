// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/runtime/loop.h"
#include "transport/base/clock.h"

namespace penstock {

struct LoopThreadOptions {
  std::string name;    // shown by top and gdb; at most 15 characters are kept
  int cpu = -1;        // pinned there; −1: wherever the process may run
  TimeNs spin_ns = 0;  // idle time before the thread sleeps (spinner.h); 0 sleeps at once
};

// Runs one loop on one thread until destroyed or stopped.
class LoopThread {
 public:
  LoopThread(Loop& loop, const Clock& clock, LoopThreadOptions options);
  ~LoopThread() { stop(); }
  void stop();  // returns when the thread has ended

 private:
  void run();
  void sleep();

  Loop& loop_;
  const Clock& clock_;
  const LoopThreadOptions options_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace penstock

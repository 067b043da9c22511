// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/loop_thread.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "engine/runtime/spinner.h"
#include "engine/runtime/waker.h"
#include "transport/base/log.h"

namespace penstock {
namespace {

// A missed wake-up would cost this much and no more.
constexpr TimeNs kLongestSleepNs = 200 * kMillisecond;

void pin_to(int cpu, const std::string& name) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (const int error = pthread_setaffinity_np(pthread_self(), sizeof set, &set); error != 0)
    PENSTOCK_LOG_WARN("{} could not be pinned to cpu {}: {}", name, cpu, error);
}

}  // namespace

LoopThread::LoopThread(Loop& loop, const Clock& clock, LoopThreadOptions options)
    : loop_(loop), clock_(clock), options_(std::move(options)), thread_([this] { run(); }) {}

void LoopThread::stop() {
  if (!thread_.joinable()) return;
  stop_.store(true, std::memory_order_release);
  loop_.waker().wake();
  thread_.join();
}

void LoopThread::run() {
  pthread_setname_np(pthread_self(), options_.name.substr(0, 15).c_str());
  if (options_.cpu >= 0) pin_to(options_.cpu, options_.name);
  Spinner spinner(options_.spin_ns);
  while (!stop_.load(std::memory_order_acquire)) {
    if (loop_.run_once() > 0)
      spinner.found();
    else if (!spinner.again(clock_))
      sleep();
  }
}

void LoopThread::sleep() {
  Waker& waker = loop_.waker();
  waker.prepare();
  if (loop_.arm() && !stop_.load(std::memory_order_acquire)) {
    const TimeNs until_ns = loop_.next_deadline_ns();
    const TimeNs now_ns = clock_.now_ns();
    const TimeNs wait_ns = until_ns == kNever
                               ? kLongestSleepNs
                               : std::clamp(until_ns - now_ns, TimeNs{0}, kLongestSleepNs);
    pollfd fds[3] = {{waker.fd(), POLLIN, 0},
                     {loop_.fd(), POLLIN, 0},  // poll() passes over negative ones
                     {loop_.device_fd(), POLLIN, 0}};
    ::poll(fds, 3, static_cast<int>((wait_ns + kMillisecond - 1) / kMillisecond));
  }
  waker.clear();
}

}  // namespace penstock

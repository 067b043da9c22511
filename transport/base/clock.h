// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Time as a constructor argument, so that tests and the simulation own it.

#include <atomic>
#include <cstdint>

namespace penstock {

// Nanoseconds on a steady clock with an arbitrary origin.
using TimeNs = std::int64_t;

inline constexpr TimeNs kMicrosecond = 1'000;
inline constexpr TimeNs kMillisecond = 1'000'000;
inline constexpr TimeNs kSecond = 1'000'000'000;
inline constexpr TimeNs kNever = INT64_MAX;

// Thread: now_ns() may be called from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimeNs now_ns() const = 0;
};

// CLOCK_MONOTONIC.
class SystemClock final : public Clock {
 public:
  TimeNs now_ns() const override;
};

// Moves only when told to.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(TimeNs start_ns = 0) : now_ns_(start_ns) {}
  TimeNs now_ns() const override { return now_ns_.load(std::memory_order_relaxed); }
  void advance(TimeNs delta_ns) { now_ns_.fetch_add(delta_ns, std::memory_order_relaxed); }

 private:
  std::atomic<TimeNs> now_ns_;
};

}  // namespace penstock

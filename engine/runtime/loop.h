// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Loop: something that is driven by calling run_once() again and again, by a thread (LoopThread) or
// by hand (tests, the simulation). LaneHost: who gives lanes their thread.

#include <cstddef>

#include "transport/base/clock.h"
#include "transport/base/status.h"

namespace penstock {

class Waker;

class Loop {
 public:
  virtual ~Loop() = default;

  // One pass over everything that is ready. Returns how much was done; 0 means idle. Never blocks.
  virtual std::size_t run_once() = 0;

  // Called after waker().prepare(): true when it is safe to sleep until fd() or the waker's
  // descriptor is readable or next_deadline_ns() has come.
  virtual bool arm() = 0;
  virtual int fd() const = 0;
  // Another descriptor to wake for: of a device whose progress() the loop calls; −1 if none.
  virtual int device_fd() const { return -1; }
  virtual TimeNs next_deadline_ns() const = 0;
  virtual Waker& waker() = 0;
};

// Told by a role, from its control loop, that a lane exists and wants to be run. The host runs it
// until the host itself is stopped, which must happen before the role is destroyed.
class LaneHost {
 public:
  virtual ~LaneHost() = default;
  virtual Status start_lane(Loop& lane, std::uint32_t index) = 0;
};

}  // namespace penstock

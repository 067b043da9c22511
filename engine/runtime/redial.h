// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// When to dial a scheduler again that is not listening yet: launchers start the processes of a job
// in any order. Thread: the role's control loop.

#include "transport/base/clock.h"
#include "transport/base/status.h"

namespace penstock {

class Redial {
 public:
  static constexpr TimeNs kPauseNs = 100 * kMillisecond;

  explicit Redial(const Clock& clock) : clock_(clock) {}

  // Whether a link that ended for `reason` is to be dialled again before `deadline_ns`: nobody
  // listened at the address. Then due() after a pause. Logs the first time.
  bool again(const Status& reason, TimeNs deadline_ns);

  // True once when it is time to dial.
  bool due();
  TimeNs next_ns() const { return next_ns_; }

 private:
  const Clock& clock_;
  TimeNs next_ns_ = kNever;
  bool told_ = false;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/base/clock.h"

#include <ctime>

namespace penstock {

TimeNs SystemClock::now_ns() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return TimeNs{now.tv_sec} * kSecond + now.tv_nsec;
}

}  // namespace penstock

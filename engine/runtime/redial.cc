// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/redial.h"

#include <cerrno>

#include "transport/base/log.h"

namespace penstock {

bool Redial::again(const Status& reason, TimeNs deadline_ns) {
  const TimeNs now_ns = clock_.now_ns();
  if (reason.system_error() != ECONNREFUSED || now_ns + kPauseNs >= deadline_ns) return false;
  if (!told_)
    PENSTOCK_LOG_WARN("no scheduler listens yet, trying on for {} s: {}",
                      (deadline_ns - now_ns) / kSecond, reason.to_string());
  told_ = true;
  next_ns_ = now_ns + kPauseNs;
  return true;
}

bool Redial::due() {
  if (clock_.now_ns() < next_ns_) return false;
  next_ns_ = kNever;
  return true;
}

}  // namespace penstock

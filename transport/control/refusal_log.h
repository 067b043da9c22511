// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

namespace penstock::control {

// Says that connections were turned away, at most once in ten seconds: a port scan must not fill
// the disk. The first of a quiet time is logged at once; the next line counts those in between.
class RefusalLog {
 public:
  void add(TimeNs now_ns, const std::string& peer, const Status& why) {
    if (now_ns < next_ns_) {
      ++unsaid_;
      return;
    }
    PENSTOCK_LOG_WARN("refused a control connection from {}: {} ({} more since the last line)",
                      peer, why.to_string(), unsaid_);
    unsaid_ = 0;
    next_ns_ = now_ns + 10 * kSecond;
  }

 private:
  TimeNs next_ns_ = INT64_MIN;
  std::uint64_t unsaid_ = 0;
};

}  // namespace penstock::control

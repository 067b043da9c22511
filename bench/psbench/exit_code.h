// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/base/status.h"

namespace penstock::psbench {

// What psbench ends with; scripts rely on the numbers.
enum ExitCode : int {
  kExitGood = 0,
  kExitWrongData = 2,
  kExitBelowTarget = 3,  // --min-busbw
  kExitTimeout = 4,
  kExitEnvironment = 5,
  kExitUsage = 64,
};

constexpr ExitCode exit_code_of(Code code) {
  switch (code) {
    case Code::kOk:
      return kExitGood;
    case Code::kInvalidArgument:
    case Code::kNotFound:
      return kExitUsage;
    case Code::kTimeout:
      return kExitTimeout;
    default:
      return kExitEnvironment;
  }
}

}  // namespace penstock::psbench

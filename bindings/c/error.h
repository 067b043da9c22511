// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The border between C++ and C: statuses become numbers, exceptions do not pass.

#include <exception>
#include <string>

#include "transport/base/status.h"

namespace penstock::c {

// Keeps the sentence for penstock_last_error() of this thread and returns the number.
int report(const Status& status);

// Runs `body`, which returns a Status; what it throws (memory is full) becomes kExhausted.
template <class Body>
int guarded(const Body& body) {
  try {
    return report(body());
  } catch (const std::exception& error) {
    return report(Status(Code::kExhausted, error.what()));
  }
}

inline Status null_argument(const char* name) {
  return {Code::kInvalidArgument, std::string(name) + " is NULL"};
}

}  // namespace penstock::c

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A failure: by default the process ends with the sentence, as a fatal check ends it; with
// PENSTOCK_PS_ERRORS=throw it is an exception.

#include <stdexcept>
#include <string>

#include "ps/internal/runtime.h"

namespace ps {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what) : std::runtime_error(what) {}
};

namespace internal {

inline void Fail(const std::string& sentence) {
  penstock_ps_fatal(sentence.c_str());
  throw Error(sentence);
}

inline void Check(const char* sentence) {
  if (sentence != nullptr) Fail(sentence);
}

}  // namespace internal
}  // namespace ps

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace penstock::internal {

void check_failed(const char* file, int line, const char* condition, const std::string& why) {
  std::fprintf(stderr, "%s:%d: CHECK(%s) failed%s%s\n", file, line, condition,
               why.empty() ? "" : ": ", why.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace penstock::internal

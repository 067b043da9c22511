// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// CHECK(condition[, format, args…]): a broken invariant of ours ends the process with file, line
// and the reason, in release builds too. Never for anything that comes from a peer, a file or a
// user.

#include <fmt/format.h>

#include <string>

namespace penstock::internal {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& why);
inline std::string check_why() { return {}; }
template <class... Args>
std::string check_why(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace penstock::internal

#define CHECK(condition, ...)                                                           \
  do {                                                                                  \
    if (__builtin_expect(!(condition), 0))                                              \
      ::penstock::internal::check_failed(__FILE__, __LINE__, #condition,                \
                                         ::penstock::internal::check_why(__VA_ARGS__)); \
  } while (false)

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace penstock::psbench {
namespace {
constexpr std::size_t kColumns = 79;
constexpr std::string_view kEraseLine = "\r\x1b[K";
}  // namespace

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::show(std::string_view text) {
  if (!terminal_) return;
  fmt::print(stderr, "{}{}", kEraseLine, text.substr(0, kColumns));
  std::fflush(stderr);
  shown_ = true;
}

void Progress::clear() {
  if (!shown_) return;
  fmt::print(stderr, "{}", kEraseLine);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace penstock::psbench

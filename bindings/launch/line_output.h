// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "transport/base/unique_fd.h"

namespace penstock::launch {

// Passes lines from one pipe on to a descriptor, whole, each behind a prefix.
class LineOutput {
 public:
  // A longer line is cut into several.
  static constexpr std::size_t kMaxLine = std::size_t{1} << 16;

  // `pipe`: its reading end, which does not block; `target` stays the caller's.
  LineOutput(UniqueFd pipe, int target, std::string prefix)
      : pipe_(std::move(pipe)), target_(target), prefix_(std::move(prefix)) {}

  int pipe() const { return pipe_.get(); }  // −1 once it has ended

  // Reads what is there. Afterwards pipe() is −1 when the writers have gone.
  void pump();
  // Nobody will write any more: passes on what is there, with a line end if that is missing.
  void finish();

 private:
  bool read_some();
  void pass_on(std::string_view line);

  UniqueFd pipe_;
  const int target_;
  const std::string prefix_;
  std::string partial_;
};

}  // namespace penstock::launch

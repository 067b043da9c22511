// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace penstock::psbench {

// One line on standard error that is rewritten in place; silent when that is not a terminal.
// Owner thread only.
class Progress {
 public:
  Progress();
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Replaces the line; `text` is one line, cut at the terminal's usual 79 columns.
  void show(std::string_view text);
  void clear();

 private:
  const bool terminal_;
  bool shown_ = false;
};

}  // namespace penstock::psbench

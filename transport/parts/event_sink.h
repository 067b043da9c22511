// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "transport/api/types.h"

namespace penstock::parts {

// Where poll() puts what happens. Whoever emits checks room() first.
class EventSink {
 public:
  explicit EventSink(std::span<Completion> out) : out_(out) {}
  bool room() const { return count_ < out_.size(); }
  void emit(const Completion& completion) { out_[count_++] = completion; }
  std::size_t count() const { return count_; }

 private:
  std::span<Completion> out_;
  std::size_t count_ = 0;
};

}  // namespace penstock::parts

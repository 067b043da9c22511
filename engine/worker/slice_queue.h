// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Slices that are ready to go to one server lane: highest priority first, then the oldest round,
// then the order of declaration. Thread: the lane. Memory is reserved when keys are added.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/protocol/types.h"

namespace penstock {

struct ReadySlice {
  std::int32_t priority = 0;
  Round round = 0;
  std::uint64_t position = 0;
  std::uint32_t slice = 0;
};

class SliceQueue {
 public:
  void reserve(std::size_t slices) { heap_.reserve(slices); }
  bool empty() const { return heap_.empty(); }
  const ReadySlice& top() const { return heap_.front(); }
  void clear() { heap_.clear(); }

  void push(const ReadySlice& slice) {
    heap_.push_back(slice);
    std::push_heap(heap_.begin(), heap_.end(), goes_later);
  }
  void pop() {
    std::pop_heap(heap_.begin(), heap_.end(), goes_later);
    heap_.pop_back();
  }

 private:
  static bool goes_later(const ReadySlice& a, const ReadySlice& b) {
    if (a.priority != b.priority) return a.priority < b.priority;
    if (a.round != b.round) return a.round > b.round;
    return a.position > b.position;
  }
  std::vector<ReadySlice> heap_;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A queue of one thread that allocates in reserve() only.

#include <bit>
#include <cstddef>
#include <utility>
#include <vector>

#include "transport/base/check.h"

namespace penstock::loopback {

template <class T>
class Fifo {
 public:
  // Room for `count` items at once.
  void reserve(std::size_t count) {
    if (count <= items_.size()) return;
    std::vector<T> wider(std::bit_ceil(count));
    for (std::size_t i = 0; i < size_; ++i) wider[i] = std::move((*this)[i]);
    items_ = std::move(wider);
    head_ = 0;
  }
  void push(const T& item) {
    CHECK(size_ < items_.size(), "a queue sized by proof is full");
    items_[(head_ + size_++) & (items_.size() - 1)] = item;
  }
  void pop() {
    CHECK(size_ > 0);
    head_ = (head_ + 1) & (items_.size() - 1);
    --size_;
  }
  T& operator[](std::size_t i) { return items_[(head_ + i) & (items_.size() - 1)]; }
  T& front() { return (*this)[0]; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  std::vector<T> items_;  // size is a power of two
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace penstock::test {

// A queue that grows when it must and then keeps its room: no allocation in steady state.
template <class T>
class GrowingFifo {
 public:
  void push(T item) {
    if (size_ == items_.size()) grow();
    items_[(head_ + size_++) % items_.size()] = std::move(item);
  }
  T pop() {
    T item = std::move(items_[head_]);
    head_ = (head_ + 1) % items_.size();
    --size_;
    return item;
  }
  T& operator[](std::size_t i) { return items_[(head_ + i) % items_.size()]; }
  T& front() { return items_[head_]; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void clear() { head_ = size_ = 0; }

  // Keeps the items for which `keep` holds, in order.
  template <class Keep>
  void filter(Keep keep) {
    for (std::size_t i = 0, all = size_; i < all; ++i) {
      T item = pop();
      if (keep(item)) push(std::move(item));
    }
  }

 private:
  void grow() {
    std::vector<T> wider(items_.empty() ? 16 : 2 * items_.size());
    for (std::size_t i = 0; i < size_; ++i) wider[i] = std::move((*this)[i]);
    items_ = std::move(wider);
    head_ = 0;
  }

  std::vector<T> items_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace penstock::test

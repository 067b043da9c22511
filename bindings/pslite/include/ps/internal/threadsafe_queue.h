// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// ThreadsafeQueue: first in, first out, between threads. Nothing here stands on it; programs do.

#include "ps/base.h"

namespace ps {

template <typename T>
class ThreadsafeQueue {
 public:
  ThreadsafeQueue() {}
  ThreadsafeQueue(const ThreadsafeQueue&) = delete;
  void operator=(const ThreadsafeQueue&) = delete;

  void Push(T value) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      values_.push_back(std::move(value));
    }
    pushed_.notify_one();
  }
  // Until there is one.
  void WaitAndPop(T* value) {
    std::unique_lock<std::mutex> lock(mutex_);
    pushed_.wait(lock, [this] { return !values_.empty(); });
    Pop(value);
  }
  // False: there is none.
  bool TryPop(T* value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (values_.empty()) return false;
    Pop(value);
    return true;
  }
  int Size() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int>(values_.size());
  }

 private:
  void Pop(T* value) {
    *value = std::move(values_.front());
    values_.pop_front();
  }

  std::mutex mutex_;  // of what follows
  std::condition_variable pushed_;
  std::deque<T> values_;
};

}  // namespace ps

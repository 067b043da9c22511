// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Open messages on their way from any thread to the lane that sends them.

#include <atomic>
#include <utility>
#include <vector>

#include "engine/runtime/message_stream.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

class MessageInbox {
 public:
  using Entry = std::pair<Rank, MessageStream::Prepared>;

  // Any thread; wake the lane afterwards.
  void push(Rank peer, MessageStream::Prepared&& message) {
    MutexLock lock(mutex_);
    entries_.emplace_back(peer, std::move(message));
    empty_.store(false, std::memory_order_release);
  }

  // Lane. Costs one load while nothing comes.
  bool empty() const { return empty_.load(std::memory_order_acquire); }
  std::vector<Entry> take() {
    MutexLock lock(mutex_);
    empty_.store(true, std::memory_order_relaxed);
    return std::exchange(entries_, {});
  }

 private:
  Mutex mutex_;
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
  std::atomic<bool> empty_{true};
};

}  // namespace penstock

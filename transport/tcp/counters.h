// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the lanes of one device did since it was opened.

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"

namespace penstock::tcp {

// A number that one thread adds to and any thread reads. Relaxed: it orders nothing.
class Tally {
 public:
  void add(std::uint64_t amount) {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Owned by one thread at a time (hence the alignment): a queue's, or the one that calls the
// listener's progress().
struct alignas(64) TcpCounters {
  Tally bytes_sent, bytes_received;  // headers too; before encryption
  Tally frames_sent, frames_received;
  Tally send_calls, receive_calls;  // that moved bytes
  Tally blocked_sends;              // the socket took less than was offered
  Tally acks_sent;                  // frames of their own; most acknowledgements ride on others
  Tally zerocopy_sends, zerocopy_copied;  // calls; and those where the kernel copied after all
  Tally tls_offloaded;                    // connections for which the kernel encrypts what is sent
  Tally connections_refused;              // before an endpoint had them
};

// Lends a block to each owner and adds them all up. Any thread.
class CounterBook {
 public:
  TcpCounters& lend();
  // What was counted stays; the next owner goes on in the same block.
  void take_back(TcpCounters& block);
  std::vector<Counter> sum() const;

 private:
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<TcpCounters>> blocks_ GUARDED_BY(mutex_);
  std::vector<TcpCounters*> free_ GUARDED_BY(mutex_);
};

}  // namespace penstock::tcp

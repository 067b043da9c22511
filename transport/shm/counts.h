// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace penstock::shm {

// What a device's endpoints did since it was opened; relaxed, for people.
struct Counts {
  std::atomic<std::uint64_t> bytes_in_place{0};      // posts copied straight between regions
  std::atomic<std::uint64_t> bytes_by_kernel{0};     // the same, where the peer's is not mapped
  std::atomic<std::uint64_t> bytes_copied_twice{0};  // taken in or answered for peers
  std::atomic<std::uint64_t> doorbells{0};           // system calls to wake a sleeping peer
  std::atomic<std::uint64_t> control_messages{0};    // sent over sockets
};

inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t more) {
  counter.fetch_add(more, std::memory_order_relaxed);
}

}  // namespace penstock::shm

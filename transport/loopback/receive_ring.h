// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where immediates and messages of all peers wait for the owner of a completion queue: bounded,
// from many threads to one, no lock. A full ring is "receiver not ready": the peer's post waits.
// The cells are those of Vyukov's bounded queue (1024cores.net, "Bounded MPMC queue").

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "transport/api/types.h"

namespace penstock::loopback {

// An endpoint of one queue, by value; goes stale when the endpoint is destroyed.
struct EndpointRef {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  bool operator==(const EndpointRef&) const = default;
};

struct Arrival {
  EndpointRef to;
  Event event{};
  std::uint32_t immediate = 0;
  std::uint64_t length = 0;
};

class ReceiveRing {
 public:
  // `depth` arrivals exactly, each with a message of up to `message_bytes`.
  ReceiveRing(std::uint32_t depth, std::uint32_t message_bytes);

  // Any thread. has_room() is a hint; push() is false when full and changes nothing then.
  bool has_room() const;
  bool push(const Arrival& arrival, std::span<const std::byte> message);
  // The position behind every push that has returned.
  std::uint64_t end() const { return tail_.load(std::memory_order_acquire); }

  // Owner. front() is null when nothing is there; pop() moves on, but the popped cells stay whole
  // until release() gives them back.
  const Arrival* front() const;
  std::span<const std::byte> message() const;  // of front()
  void pop() { ++next_; }
  void release();
  std::uint64_t position() const { return next_; }
  bool holds_popped() const { return next_ != released_.load(std::memory_order_relaxed); }

 private:
  struct Cell {
    std::atomic<std::uint64_t> published{0};  // 1 + position of the arrival inside, see push()
    Arrival arrival;
  };

  const std::uint64_t depth_;
  const std::uint32_t message_bytes_;
  const std::unique_ptr<Cell[]> cells_;
  const std::unique_ptr<std::byte[]> messages_;         // one per cell; pages untouched until used
  alignas(64) std::atomic<std::uint64_t> tail_{0};      // next position to fill; all producers
  alignas(64) std::atomic<std::uint64_t> released_{0};  // positions below are free again; owner
  std::uint64_t next_ = 0;                              // next position to read; owner
};

}  // namespace penstock::loopback

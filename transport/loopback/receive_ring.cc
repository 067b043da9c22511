// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/receive_ring.h"

#include <cstring>

namespace penstock::loopback {

ReceiveRing::ReceiveRing(std::uint32_t depth, std::uint32_t message_bytes)
    : depth_(depth),
      message_bytes_(message_bytes),
      cells_(std::make_unique<Cell[]>(depth)),
      messages_(std::make_unique_for_overwrite<std::byte[]>(std::size_t{depth} * message_bytes)) {}

bool ReceiveRing::has_room() const {
  return tail_.load(std::memory_order_relaxed) < released_.load(std::memory_order_acquire) + depth_;
}

bool ReceiveRing::push(const Arrival& arrival, std::span<const std::byte> message) {
  std::uint64_t position = tail_.load(std::memory_order_relaxed);
  do {
    // Pairs with release()'s store: the owner has finished with the cell.
    if (position >= released_.load(std::memory_order_acquire) + depth_) return false;
  } while (!tail_.compare_exchange_weak(position, position + 1, std::memory_order_acq_rel));
  Cell& cell = cells_[position % depth_];
  cell.arrival = arrival;
  if (!message.empty())
    std::memcpy(&messages_[position % depth_ * message_bytes_], message.data(), message.size());
  cell.published.store(position + 1, std::memory_order_release);  // pairs with front()'s load
  return true;
}

const Arrival* ReceiveRing::front() const {
  const Cell& cell = cells_[next_ % depth_];
  return cell.published.load(std::memory_order_acquire) == next_ + 1 ? &cell.arrival : nullptr;
}

std::span<const std::byte> ReceiveRing::message() const {
  return {&messages_[next_ % depth_ * message_bytes_], cells_[next_ % depth_].arrival.length};
}

void ReceiveRing::release() { released_.store(next_, std::memory_order_release); }

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/completion_queue.h"

#include <sys/eventfd.h>

#include "transport/loopback/endpoint.h"

namespace penstock::loopback {

LoopbackQueue::LoopbackQueue(LoopbackDevice& device, std::uint32_t depth,
                             std::uint32_t message_bytes, UniqueFd event)
    : device_(device), event_(std::move(event)), arrivals_(depth, message_bytes) {
  device_.add_queue(*this);
}

LoopbackQueue::~LoopbackQueue() {
  for (const Slot& slot : slots_)
    CHECK(slot.endpoint == nullptr, "a completion queue was destroyed before its endpoints");
  device_.remove_queue(*this);
}

std::size_t LoopbackQueue::poll(std::span<Completion> out) {
  if (may_sleep_) awake();
  arrivals_.release();
  if (attention_.load(std::memory_order_relaxed)) attend();
  if (!stalled_.empty()) retry_stalled();
  if (connecting_ != 0) expire();
  std::size_t taken = take_local(out);
  taken += take_arrivals(out.subspan(taken));
  if (!departing_.empty()) {
    settle_departing();
    taken += take_local(out.subspan(taken));
  }
  return taken;
}

bool LoopbackQueue::arm() {
  if (!local_.empty() || !stalled_.empty() || !departing_.empty() || arrivals_.holds_popped())
    return false;
  may_sleep_ = true;
  // Pairs with wake(): whichever exchange comes second sees what the other side did before its own.
  armed_.exchange(true, std::memory_order_acq_rel);
  return arrivals_.front() == nullptr && !attention_.load(std::memory_order_acquire);
}

EndpointRef LoopbackQueue::attach(LoopbackEndpoint& endpoint, std::uint32_t send_depth) {
  std::uint32_t index = 0;
  while (index < slots_.size() && slots_[index].endpoint != nullptr) ++index;
  if (index == slots_.size()) slots_.emplace_back();
  slots_[index].endpoint = &endpoint;
  ++slots_[index].generation;
  local_needed_ += send_depth + 2;  // and kConnected, kDisconnected
  local_.reserve(local_.size() + local_needed_);
  stalled_.reserve(slots_.size());
  departing_.reserve(slots_.size());
  return {index, slots_[index].generation};
}

void LoopbackQueue::detach(EndpointRef ref, std::uint32_t send_depth) {
  slots_[ref.slot].endpoint = nullptr;
  local_needed_ -= send_depth + 2;
  std::erase(stalled_, ref);
  std::erase_if(departing_, [&](const Departure& departure) { return departure.ref == ref; });
}

bool LoopbackQueue::deliver(const Arrival& arrival, std::span<const std::byte> message) {
  if (!arrivals_.push(arrival, message)) return false;
  wake();
  return true;
}

void LoopbackQueue::call_attention() {
  attention_.store(true, std::memory_order_release);  // pairs with attend()'s exchange
  wake();
}

std::size_t LoopbackQueue::pending_ops() const {
  std::size_t sum = 0;
  for (const Slot& slot : slots_) {
    if (slot.endpoint != nullptr) sum += slot.endpoint->outstanding();
  }
  return sum;
}

LoopbackEndpoint* LoopbackQueue::find(EndpointRef ref) const {
  const Slot& slot = slots_[ref.slot];
  return slot.generation == ref.generation ? slot.endpoint : nullptr;
}

void LoopbackQueue::attend() {
  if (!attention_.exchange(false, std::memory_order_acq_rel)) return;
  for (const Slot& slot : slots_) {
    if (slot.endpoint != nullptr) slot.endpoint->notice();
  }
}

void LoopbackQueue::retry_stalled() {
  std::erase_if(stalled_, [&](EndpointRef ref) { return !find(ref)->retry(); });
}

void LoopbackQueue::expire() {
  for (const Slot& slot : slots_) {
    if (slot.endpoint != nullptr) slot.endpoint->expire();
  }
}

std::size_t LoopbackQueue::take_local(std::span<Completion> out) {
  std::size_t taken = 0;
  while (taken < out.size() && !local_.empty()) {
    const LocalCompletion& next = local_.front();
    if (LoopbackEndpoint* endpoint = find(next.ref)) {
      endpoint->taken(next.completion.event);
      out[taken++] = next.completion;
    }
    local_.pop();
  }
  return taken;
}

std::size_t LoopbackQueue::take_arrivals(std::span<Completion> out) {
  std::size_t taken = 0;
  while (taken < out.size()) {
    const Arrival* arrival = arrivals_.front();
    if (arrival == nullptr) break;
    LoopbackEndpoint* endpoint = find(arrival->to);
    if (endpoint != nullptr && endpoint->connecting()) {
      attend();  // the peer knows of the connection already; kConnected comes first here too
      if (endpoint->connecting()) break;  // under a fault plan it may be on its way still
      taken += take_local(out.subspan(taken));
      continue;
    }
    if (endpoint != nullptr) {
      Completion& completion = out[taken++] = {};
      completion.event = arrival->event;
      completion.endpoint = endpoint->id();
      completion.immediate = arrival->immediate;
      completion.length = arrival->length;
      if (arrival->event == Event::kMessage) completion.message = arrivals_.message();
    }
    arrivals_.pop();
  }
  return taken;
}

void LoopbackQueue::settle_departing() {
  std::erase_if(departing_, [&](const Departure& departure) {
    if (arrivals_.position() < departure.after) return false;
    find(departure.ref)->finish();
    return true;
  });
}

// Pairs with arm(); called after the push or the flag that the sleeper should see.
void LoopbackQueue::wake() {
  if (armed_.exchange(false, std::memory_order_acq_rel) && event_.valid())
    CHECK(eventfd_write(event_.get(), 1) == 0, "waking a queue's owner");
}

void LoopbackQueue::awake() {
  may_sleep_ = false;
  armed_.exchange(false, std::memory_order_acq_rel);
  eventfd_t count = 0;
  if (event_.valid()) (void)eventfd_read(event_.get(), &count);  // non-blocking; 0 is fine
}

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/comm.h"

#include <sched.h>

#include <array>

namespace penstock::nccl {
namespace {

// What may arrive before it is polled: 32 receives, and as many ends of sends.
constexpr std::uint32_t kQueueDepth = 64;
// One poll in so many that find nothing looks after the device: it is a system call or two.
constexpr std::uint32_t kIdlePolls = 64;
// Adapters flush their queues in less; one that does not is dead.
constexpr TimeNs kCloseNs = kSecond;

}  // namespace

Result<std::unique_ptr<CompletionQueue>> Comm::make_queue(NetDevice& device) {
  return device.transport().create_completion_queue(kQueueDepth);
}

Status Comm::poll() {
  if (queue_ == nullptr) return failure_;
  std::array<Completion, 32> events;
  const std::size_t count = queue_->poll(events);
  for (std::size_t i = 0; i < count; ++i) handle(events[i]);
  if (count > 0)
    owes_ = true;
  else if (++idle_polls_ % kIdlePolls == 0)
    device_.progress();
  return failure_;
}

void Comm::handle(const Completion& event) {
  if (event.event == Event::kConnected) {
    connected_ = true;
  } else if (event.event == Event::kDisconnected) {
    ended_ = true;
    if (failure_.ok()) failure_ = endpoint_->status();
  } else {
    on_event(event);
  }
}

void Comm::fail(Status reason) {
  if (!failure_.ok()) return;
  failure_ = std::move(reason);
  if (endpoint_ != nullptr) endpoint_->close();
}

void Comm::done() {
  // NCCL may never call again: what the peer waits for has to leave now.
  if (--outstanding_ > 0 || !owes_ || queue_ == nullptr) return;
  (void)queue_->arm();
  owes_ = false;
}

void Comm::shut() {
  if (queue_ == nullptr) return;
  fail(Status(Code::kCancelled, "closed here"));
  const TimeNs deadline_ns = device_.clock().now_ns() + kCloseNs;
  while (endpoint_ != nullptr && !ended_ && device_.clock().now_ns() < deadline_ns) {
    std::array<Completion, 32> events;
    const std::size_t count = queue_->poll(events);
    for (std::size_t i = 0; i < count; ++i) handle(events[i]);
    if (count == 0) ::sched_yield();
  }
  endpoint_.reset();
  queue_.reset();
  drop_requests();
}

}  // namespace penstock::nccl

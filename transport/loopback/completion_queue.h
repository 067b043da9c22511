// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One owner thread's queue. Completions of its own endpoints' posts wait in `local_`, which always
// has room (each endpoint brings its send depth); what peers deliver waits in `arrivals_`, bounded.
// Peers and the fabric otherwise only raise flags; every change of an endpoint's state happens on
// the owner's thread, in poll().

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/unique_fd.h"
#include "transport/loopback/fifo.h"
#include "transport/loopback/receive_ring.h"

namespace penstock::loopback {

class LoopbackEndpoint;
class LoopbackDevice;

class LoopbackQueue final : public CompletionQueue {
 public:
  // `event` is an eventfd, or none where nobody sleeps (a fabric with a fault plan).
  LoopbackQueue(LoopbackDevice& device, std::uint32_t depth, std::uint32_t message_bytes,
                UniqueFd event);
  ~LoopbackQueue() override;

  std::size_t poll(std::span<Completion> out) override;
  bool arm() override;
  int fd() const override { return event_.get(); }

  // Owner thread, by the endpoints.
  EndpointRef attach(LoopbackEndpoint& endpoint, std::uint32_t send_depth);
  void detach(EndpointRef ref, std::uint32_t send_depth);
  void complete(EndpointRef ref, const Completion& completion) { local_.push({ref, completion}); }
  // A post found no room at the peer: poll() tries again.
  void add_stalled(EndpointRef ref) { stalled_.push_back(ref); }
  // kDisconnected follows once everything that has arrived so far was taken.
  void add_departing(EndpointRef ref) { departing_.push_back({ref, arrivals_.end()}); }
  void add_connecting() { ++connecting_; }
  void remove_connecting() { --connecting_; }

  // Any thread inside the gate of an endpoint of this queue.
  bool has_room() const { return arrivals_.has_room(); }
  bool deliver(const Arrival& arrival, std::span<const std::byte> message);
  void call_attention();

  // Sum of the posts whose completion was not yet polled. Only while the owner stands still.
  std::size_t pending_ops() const;
  const LoopbackDevice& device() const { return device_; }

 private:
  struct Slot {
    LoopbackEndpoint* endpoint = nullptr;
    std::uint32_t generation = 0;
  };
  struct LocalCompletion {
    EndpointRef ref;
    Completion completion;
  };
  struct Departure {
    EndpointRef ref;
    std::uint64_t after;  // position in arrivals_
  };

  LoopbackEndpoint* find(EndpointRef ref) const;
  void attend();
  void retry_stalled();
  void expire();
  std::size_t take_local(std::span<Completion> out);
  std::size_t take_arrivals(std::span<Completion> out);
  void settle_departing();
  void wake();
  void awake();

  LoopbackDevice& device_;
  UniqueFd event_;
  // Owner thread only.
  std::vector<Slot> slots_;
  Fifo<LocalCompletion> local_;
  std::size_t local_needed_ = 0;  // the live endpoints' share of local_
  std::vector<EndpointRef> stalled_;
  std::vector<Departure> departing_;
  std::size_t connecting_ = 0;  // endpoints that wait for their peer
  bool may_sleep_ = false;      // arm() said true since the last poll()
  // Shared.
  ReceiveRing arrivals_;
  std::atomic<bool> attention_{false};  // some endpoint's signals changed; set after them
  std::atomic<bool> armed_{false};      // both sides exchange it, so one of them sees the other
};

}  // namespace penstock::loopback

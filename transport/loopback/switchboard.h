// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where connecting endpoints meet accepting ones, and the owner of what two ends share. Everything
// here is rare (connect, close, faults), so one lock does.

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "transport/base/clock.h"
#include "transport/base/thread_annotations.h"
#include "transport/loopback/connection.h"
#include "transport/loopback/endpoint.h"

namespace penstock::loopback {

// Thread: all functions from any thread.
class Switchboard {
 public:
  explicit Switchboard(const Clock& clock) : clock_(clock) {}
  ~Switchboard();

  const Clock& clock() const { return clock_; }
  bool sleepers() const { return true; }  // queues need a descriptor to sleep on

  std::string add_device(LoopbackDevice& device);  // returns its address
  void remove_device(LoopbackDevice& device);

  // The endpoint waits for a peer that names its token. kAlreadyExists if another one does.
  Status await(LoopbackEndpoint& endpoint);
  // Connects to the endpoint at `address` that waits for the token, or signals the refusal.
  void connect(LoopbackEndpoint& endpoint, const std::string& address);
  // The endpoint no longer waits; afterwards nobody establishes it.
  void withdraw(LoopbackEndpoint& endpoint);
  // The endpoint is being destroyed.
  void detach(LoopbackEndpoint& endpoint);

  // Breaks every connection between two devices: both ends see kConnectionLost.
  void cut(const std::string& address_a, const std::string& address_b);

  std::size_t live_regions();
  std::size_t live_endpoints();
  std::size_t pending_ops();  // only while the owner threads of the queues stand still

 private:
  using Seat = std::pair<const LoopbackDevice*, Token>;

  Code meet(LoopbackEndpoint& endpoint, const std::string& address) REQUIRES(mutex_);

  const Clock& clock_;
  Mutex mutex_;
  std::uint64_t devices_made_ GUARDED_BY(mutex_) = 0;
  std::uint64_t connections_made_ GUARDED_BY(mutex_) = 0;
  std::map<std::string, LoopbackDevice*> devices_ GUARDED_BY(mutex_);
  std::map<Seat, LoopbackEndpoint*> waiting_ GUARDED_BY(mutex_);  // looked up, never iterated
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_ GUARDED_BY(mutex_);
};

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where connecting endpoints meet accepting ones, and the owner of what two ends share. Everything
// here is rare (connect, close, faults), so one lock does.

#include <map>
#include <memory>
#include <set>
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
  // `timeline` is null without a fault plan; outlives this.
  Switchboard(const Clock& clock, Timeline* timeline) : clock_(clock), timeline_(timeline) {}
  ~Switchboard();

  const Clock& clock() const { return clock_; }
  Timeline* timeline() const { return timeline_; }

  std::string add_device(LoopbackDevice& device);  // returns its address
  void remove_device(LoopbackDevice& device);

  // The endpoint waits for a peer that names its token. kAlreadyExists if another one does.
  Status await(LoopbackEndpoint& endpoint);
  // Connects to the endpoint at `address` that waits for the token, or signals the refusal.
  void knock(LoopbackEndpoint& endpoint, const std::string& address);
  // The endpoint no longer waits; afterwards nobody establishes it.
  void withdraw(LoopbackEndpoint& endpoint);
  // The endpoint is being destroyed.
  void detach(LoopbackEndpoint& endpoint);

  // Breaks every connection between two devices: both ends see kConnectionLost.
  void cut(const std::string& address_a, const std::string& address_b);
  void cut(Connection& connection);
  // The device's process is gone: nothing passes from or to it any more. Silent: its peers are not
  // told, and who connects to it hears nothing.
  void kill(const LoopbackDevice& device, bool silent);

  std::size_t live_regions();
  std::size_t live_endpoints();
  std::size_t pending_ops();  // only while the owner threads of the queues stand still

 private:
  using Seat = std::pair<const LoopbackDevice*, Token>;

  Code meet(LoopbackEndpoint& endpoint, const std::string& address) REQUIRES(mutex_);
  void sever(Connection& connection) REQUIRES(mutex_);
  void lose(LoopbackEndpoint& endpoint, Code code) REQUIRES(mutex_);

  const Clock& clock_;
  Timeline* const timeline_;
  Mutex mutex_;
  std::uint64_t devices_made_ GUARDED_BY(mutex_) = 0;
  std::uint64_t connections_made_ GUARDED_BY(mutex_) = 0;
  std::map<std::string, LoopbackDevice*> devices_ GUARDED_BY(mutex_);
  std::map<Seat, LoopbackEndpoint*> waiting_ GUARDED_BY(mutex_);  // looked up, never iterated
  std::set<const LoopbackDevice*> dead_ GUARDED_BY(mutex_);       // looked up, never iterated
  std::set<std::string> silent_ GUARDED_BY(mutex_);               // addresses of the silently dead
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_ GUARDED_BY(mutex_);
};

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One port of one RDMA device, opened: what it can do, its address, its protection domains and its
// counts. Everything on it lives in the context rdma_cm opened, which one process shares; a context
// of our own only listens to what happens to the port, so that nobody else takes that news.

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "transport/base/thread_annotations.h"
#include "transport/verbs/api.h"
#include "transport/verbs/cm.h"
#include "transport/verbs/device.h"

namespace penstock::verbs {

class Rail;

// A protection domain: the regions and queue pairs of one peer's scope on one rail. A peer reaches
// what is registered in the domain of its queue pair and nothing else; the device sees to that.
struct Domain {
  Rail& rail;
  const PeerScope scope;
  ibv_pd* const pd;
  unsigned users = 1;  // regions and paths; guarded by the rail's mutex
};

// Counted by the threads of all queues.
struct RailCounts {
  using Count = std::atomic<std::uint64_t>;
  Count posts{0};          // work requests
  Count bytes_sent{0};     // of writes and messages, as posted
  Count bytes_read{0};     // asked for by reads
  Count doorbells{0};      // ibv_post_send calls
  Count signalled{0};      // posts that made a completion
  Count credit_waits{0};   // times a post had to wait for the peer's receives
  Count credits_sent{0};   // messages that returned receives to a peer
  Count retry_errors{0};   // the peer's device stopped answering
  Count rnr_errors{0};     // the peer had no receive
  Count other_errors{0};   // failed completions, without those that were merely flushed
  Count strays{0};         // completions of nothing outstanding: late, duplicate
  Count registrations{0};  // memory regions registered
};
inline void add(RailCounts::Count& count, std::uint64_t by = 1) {
  count.fetch_add(by, std::memory_order_relaxed);
}

// Who may carry new connections. Any thread.
class RailHealth {
 public:
  // A connection was lost to the rail itself: no new ones until the pause is over. Each failure in
  // a row doubles it, to at most a minute.
  void fail(TimeNs now_ns);
  void succeed() { failures_.store(0, std::memory_order_relaxed); }
  bool paused(TimeNs now_ns) const {
    return down() || now_ns < paused_until_ns_.load(std::memory_order_relaxed);
  }
  // What the port said last. While it is down nothing may be sent to the peer's connection manager:
  // some devices (soft-RoCE) never send to it again after that fails.
  void set_down(bool down) {
    if (!down) paused_until_ns_.store(0, std::memory_order_relaxed);
    down_.store(down, std::memory_order_relaxed);
  }
  bool down() const { return down_.load(std::memory_order_relaxed); }
  TimeNs paused_until_ns() const { return paused_until_ns_.load(std::memory_order_relaxed); }

  void add_connection() { connections_.fetch_add(1, std::memory_order_relaxed); }
  void drop_connection() { connections_.fetch_sub(1, std::memory_order_relaxed); }
  int connections() const { return connections_.load(std::memory_order_relaxed); }

 private:
  std::atomic<TimeNs> paused_until_ns_{0};
  std::atomic<bool> down_{false};
  std::atomic<int> failures_{0};
  std::atomic<int> connections_{0};
};

struct RailLimits {
  std::uint32_t completions = 0;    // of one completion queue
  std::uint32_t receives = 0;       // of one shared receive queue
  std::uint32_t send_slots = 0;     // of one queue pair
  std::uint32_t message_bytes = 0;  // of one work request
  std::uint8_t reads = 0;           // outstanding reads of one queue pair
  int vectors = 1;                  // completion vectors
  double speed = 1;                 // of the link, in units all rails share
};

class Rail {
 public:
  // `own` is open and becomes the rail's. Binds `address` (its port 0) with rdma_cm on `channel`.
  static Result<std::unique_ptr<Rail>> open(const VerbsApi& api, ibv_context* own, std::string name,
                                            std::size_t index, std::uint8_t port,
                                            const IpAddress& address, CmChannel& channel);
  ~Rail();
  Rail(const Rail&) = delete;
  Rail& operator=(const Rail&) = delete;

  const VerbsApi& api() const { return api_; }
  const std::string& name() const { return name_; }  // "rxe0:1"
  std::size_t index() const { return index_; }       // within the device; the peer's has the same
  std::uint8_t port() const { return port_; }
  ibv_context* events() const { return own_; }              // whose async events concern the port
  ibv_context* verbs() const { return listening_->verbs; }  // where everything is created
  rdma_cm_id* listening() const { return listening_; }
  const IpAddress& address() const { return address_; }  // with the port peers connect to
  const RailLimits& limits() const { return limits_; }
  RailCounts& counts() { return counts_; }
  RailHealth& health() { return health_; }
  // Asks the port: a completion that fails, or a peer, may be faster than the device's own news.
  bool ask_down();

  // One more user of the scope's domain; made when there is none. Any thread.
  Result<Domain*> acquire(PeerScope scope);
  void release(Domain* domain);

 private:
  Rail(const VerbsApi& api, ibv_context* own, std::string name, std::size_t index,
       std::uint8_t port)
      : api_(api), own_(own), name_(std::move(name)), index_(index), port_(port) {}
  Status bind(const IpAddress& address, CmChannel& channel);
  Status query();

  const VerbsApi& api_;
  ibv_context* const own_;
  const std::string name_;
  const std::size_t index_;
  const std::uint8_t port_;
  rdma_cm_id* listening_ = nullptr;
  IpAddress address_;
  RailLimits limits_;
  RailCounts counts_;
  RailHealth health_;

  Mutex mutex_;
  std::vector<std::unique_ptr<Domain>> domains_ GUARDED_BY(mutex_);
};

// kUnsupported, with the way out, on a host without any.
Status require_devices(const VerbsApi& api);

// The rails `options` names, or every active port up to kMaxRails. Errors name what is missing and
// the way out.
Result<std::vector<std::unique_ptr<Rail>>> open_rails(const VerbsApi& api,
                                                      const VerbsOptions& options,
                                                      CmChannel& channel);

}  // namespace penstock::verbs

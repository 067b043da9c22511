// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One lane's completion queue: the rails' completions, rdma_cm's events of its endpoints, and which
// endpoints have something to do. Polling asks the device only; rdma_cm and the inbox are looked at
// when the descriptor said so, and now and then. Thread: the owner's, except hand_over() and
// tell().

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"
#include "transport/base/unique_fd.h"
#include "transport/verbs/cm.h"
#include "transport/verbs/endpoint.h"
#include "transport/verbs/rail_queue.h"

namespace penstock::verbs {

class AsyncEvents;

// News from a rail's event queue: of one queue pair, of one completion or shared receive queue, or
// of everything; where the reason is no error, that its port is up again. Those that it does not
// concern ignore it.
struct Notice {
  std::size_t rail = 0;
  std::uint32_t qp = 0;
  const ibv_cq* cq = nullptr;
  const ibv_srq* srq = nullptr;
  Status reason{};
};

class VerbsQueue final : public CompletionQueue {
 public:
  // `depth` bounds what may arrive on one endpoint before it is polled. `news` outlives the queue
  // and tells it about its rails.
  static Result<std::unique_ptr<VerbsQueue>> create(std::span<const std::unique_ptr<Rail>> rails,
                                                    AsyncEvents& news, const Clock& clock,
                                                    std::uint32_t depth);
  ~VerbsQueue() override;  // its endpoints are gone
  VerbsQueue(const VerbsQueue&) = delete;
  VerbsQueue& operator=(const VerbsQueue&) = delete;

  std::size_t poll(std::span<Completion> out) override;
  bool arm() override;
  int fd() const override { return epoll_.get(); }

  // Any thread. The request goes on here; when it fails the caller keeps the id.
  Status hand_over(const Adoption& adoption);
  void tell(const Notice& notice);

  // For its endpoints.
  std::uint64_t attach(VerbsEndpoint& endpoint, TimeNs deadline_ns);  // returns a serial
  void detach(VerbsEndpoint& endpoint);
  void mark_ready(VerbsEndpoint& endpoint);
  // An endpoint's deadline_ns() became this.
  void expect(TimeNs deadline_ns) { next_deadline_ns_ = std::min(next_deadline_ns_, deadline_ns); }
  // Until it is drained.
  void keep(std::unique_ptr<Path> path) { kept_.push_back(std::move(path)); }
  RailQueue& on_rail(std::size_t rail) const { return *rails_[rail]; }
  std::size_t rail_count() const { return rails_.size(); }
  // Where the next of the first `count` rails' connections goes: to the one with the most link left
  // for it among those that are not paused.
  RailQueue& choose_rail(std::size_t count) const;
  const VerbsApi& api() const { return rails_[0]->rail().api(); }
  TimeNs now_ns() const { return clock_.now_ns(); }
  CmChannel& cm() const { return *cm_; }
  std::uint32_t window() const { return window_; }  // receives for each path

 private:
  VerbsQueue(AsyncEvents& news, const Clock& clock, std::uint32_t window);
  Status watch(int fd, std::uint64_t tag);
  void wake();
  std::size_t take_completions();
  void take_events();
  void take_cm_events();
  void take_inbox();
  void act_on(const Notice& notice);
  void check_deadlines();
  void step_ready(EventSink& sink);
  VerbsEndpoint* pop_ready();

  AsyncEvents& news_;
  const Clock& clock_;
  const std::uint32_t window_;
  UniqueFd epoll_;
  UniqueFd wake_;  // eventfd: something is in the inbox
  std::unique_ptr<CmChannel> cm_;
  std::vector<std::unique_ptr<RailQueue>> rails_;
  std::vector<std::unique_ptr<Path>> kept_;
  std::vector<VerbsEndpoint*> endpoints_;
  VerbsEndpoint* ready_head_ = nullptr;
  VerbsEndpoint* ready_tail_ = nullptr;
  std::size_t ready_count_ = 0;
  std::uint64_t pass_ = 0;
  std::uint64_t next_serial_ = 1;
  TimeNs next_deadline_ns_ = kNever;  // no endpoint's deadline is earlier
  bool slept_ = false;                // armed since the descriptors were looked at

  std::atomic<bool> inbox_filled_{false};  // set under the mutex; poll() looks without it
  Mutex mutex_;
  std::vector<Adoption> adoptions_ GUARDED_BY(mutex_);
  std::vector<Notice> notices_ GUARDED_BY(mutex_);
};

}  // namespace penstock::verbs

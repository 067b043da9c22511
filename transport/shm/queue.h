// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One lane's completion queue. Endpoints are looked at in turn, a cache line of shared memory each;
// the kernel is asked only when nothing happened for a while, and around sleeping.
// Peers wake a sleeper through the bell, an eventfd; sockets wake it for hang-ups and messages.
// Thread: the owner's, except hand_over().

#include <atomic>
#include <cstdint>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"
#include "transport/base/unique_fd.h"
#include "transport/shm/endpoint.h"

namespace penstock::shm {

class ShmQueue final : public CompletionQueue {
 public:
  static Result<std::unique_ptr<ShmQueue>> create(const Clock& clock);
  ~ShmQueue() override;  // its endpoints are gone

  std::size_t poll(std::span<Completion> out) override;
  bool arm() override;
  int fd() const override { return epoll_.get(); }

  // From the listener, any thread: the peer of endpoint `adoption.serial`, if that still exists.
  void hand_over(Adoption adoption);

  // For its endpoints.
  // Returns a serial, never reused in this queue.
  std::uint64_t attach(ShmEndpoint& endpoint, TimeNs deadline_ns);
  void detach(ShmEndpoint& endpoint);
  Status watch(int fd, ShmEndpoint& endpoint);
  void unwatch(int fd);
  int bell() const { return bell_.get(); }  // for peers to ring

 private:
  ShmQueue(const Clock& clock, UniqueFd epoll, UniqueFd bell);
  void wake();
  void step_all(EventSink& sink);
  bool take_events();
  void take_inbox();
  void check_deadlines();

  const Clock& clock_;
  const UniqueFd epoll_;
  const UniqueFd bell_;
  std::vector<ShmEndpoint*> endpoints_;
  std::size_t first_ = 0;  // whose turn it is
  std::uint64_t pass_ = 0;
  std::uint64_t sleeps_ = 0;
  bool asleep_ = false;
  std::uint64_t next_serial_ = 1;
  TimeNs next_deadline_ns_ = kNever;  // no endpoint's deadline is earlier

  std::atomic<bool> inbox_filled_{false};  // set under the mutex; poll() looks without it
  Mutex mutex_;
  std::vector<Adoption> inbox_ GUARDED_BY(mutex_);
};

}  // namespace penstock::shm

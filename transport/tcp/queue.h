// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One lane's completion queue: an epoll descriptor and the endpoints that have something to do.
// A socket that still yields bytes is read again without asking epoll; epoll is asked when nothing
// happened, and now and then so that quiet sockets are not forgotten.
// Thread: the owner's, except hand_over().

#include <atomic>
#include <cstdint>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"
#include "transport/base/unique_fd.h"
#include "transport/tcp/counters.h"
#include "transport/tcp/endpoint.h"

namespace penstock::tcp {

class TcpQueue final : public CompletionQueue {
 public:
  static Result<std::unique_ptr<TcpQueue>> create(CounterBook& book, const Clock& clock);
  ~TcpQueue() override;  // its endpoints are gone

  std::size_t poll(std::span<Completion> out) override;
  bool arm() override;
  int fd() const override { return epoll_.get(); }

  // From the listener, any thread: the socket of endpoint `adoption.serial`, if it still exists.
  void hand_over(Adoption adoption);

  // For its endpoints.
  // Returns a serial, never reused in this queue.
  std::uint64_t attach(TcpEndpoint& endpoint, TimeNs deadline_ns);
  void detach(TcpEndpoint& endpoint);
  void mark_ready(TcpEndpoint& endpoint);
  Status watch(int fd, TcpEndpoint& endpoint, bool writable);
  void rewatch(int fd, TcpEndpoint& endpoint, bool writable);
  // Keeps reading and dropping for a while before it closes, so that the last frame sent on it is
  // not destroyed by a reset.
  void linger(UniqueFd fd);
  TcpCounters& counters() { return counters_; }
  TimeNs now_ns() const { return clock_.now_ns(); }

 private:
  struct Lingering {
    UniqueFd fd;
    TimeNs until_ns = 0;
    std::size_t bytes_left = 0;
  };

  TcpQueue(CounterBook& book, const Clock& clock, UniqueFd epoll, UniqueFd wake);
  void step_ready(EventSink& sink);
  bool take_socket_events();
  void take_inbox();
  void check_deadlines();
  void drop_lingering();
  TcpEndpoint* pop_ready();

  CounterBook& book_;
  TcpCounters& counters_;
  const Clock& clock_;
  const UniqueFd epoll_;
  const UniqueFd wake_;  // eventfd: something is in the inbox
  std::vector<TcpEndpoint*> endpoints_;
  TcpEndpoint* ready_head_ = nullptr;
  TcpEndpoint* ready_tail_ = nullptr;
  std::size_t ready_count_ = 0;
  std::uint64_t pass_ = 0;
  std::uint64_t next_serial_ = 1;
  std::vector<Lingering> lingering_;
  TimeNs next_deadline_ns_ = kNever;  // no endpoint's deadline is earlier

  std::atomic<bool> inbox_filled_{false};  // set under the mutex; poll() looks without it
  Mutex mutex_;
  std::vector<Adoption> inbox_ GUARDED_BY(mutex_);
};

}  // namespace penstock::tcp

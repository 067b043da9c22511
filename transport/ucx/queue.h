// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One lane's completion queue: its workers, its connections and which of them have something to do.
//
// The gate is held by every call of the owner and, while a region with bytes under way is
// deregistered, by that thread: UCX moves bytes only while somebody drives its worker. Nobody else
// takes it, so on the data path it is never contended.

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/thread_annotations.h"
#include "transport/base/unique_fd.h"
#include "transport/ucx/connection.h"

namespace penstock::ucx {

class UcxQueue;

// The queues of a device. Any thread.
class QueueList {
 public:
  void add(UcxQueue& queue);
  void remove(UcxQueue& queue);
  // Drives every queue once; with `cut`, ends the connections that still use the region `key`.
  void drive(std::uint64_t key, bool cut);

 private:
  Mutex mutex_;
  std::vector<UcxQueue*> queues_ GUARDED_BY(mutex_);
};

class UcxQueue final : public CompletionQueue, public FrameSink {
 public:
  static Result<std::unique_ptr<UcxQueue>> create(const Context& context, QueueList& siblings,
                                                  const Clock& clock);
  ~UcxQueue() override;
  UcxQueue(const UcxQueue&) = delete;
  UcxQueue& operator=(const UcxQueue&) = delete;

  std::size_t poll(std::span<Completion> out) override;
  bool arm() override;
  int fd() const override { return epoll_.get(); }

  Mutex& gate() { return gate_; }
  // For the device; takes the gate.
  void drive(std::uint64_t key, bool cut);
  // For the listener, on its thread.
  void hand_over(Adoption adoption);

  // For connections, which run under the gate.
  std::uint64_t attach(Connection& connection, TimeNs deadline_ns);
  void detach(Connection& connection);
  void mark_ready(Connection& connection);
  Status watch(int fd, Connection& connection);
  Result<Worker*> connecting_worker() { return worker(connecting_); }
  Result<Worker*> accepting_worker() { return worker(accepting_); }
  // `message` was handed to the owner, who may read it until the next poll().
  void lend(Worker& worker, void* message) { lent_.push_back({&worker, message}); }
  void progress();
  const UcpApi& api() const { return context_.api(); }
  Counts& counts() const { return context_.counts(); }
  TimeNs now_ns() const { return clock_.now_ns(); }

  ucs_status_t on_frame(const FrameHeader& header, void* data, std::size_t length,
                        std::uint64_t receive_attributes) override;

 private:
  struct Lent {
    Worker* worker;
    void* message;
  };

  UcxQueue(const Context& context, QueueList& siblings, const Clock& clock, UniqueFd epoll,
           UniqueFd sockets, UniqueFd wake);
  Result<Worker*> worker(std::unique_ptr<Worker>& made);
  void step_ready(EventSink& sink);
  void take_socket_events();
  void take_inbox();
  void check_deadlines();
  void take_back_lent();
  Connection* pop_ready();
  Connection* find(std::uint64_t key) const;

  const Context& context_;
  QueueList& siblings_;
  const Clock& clock_;
  Mutex gate_;
  const UniqueFd epoll_;                            // what sleepers wait for: UCX's, and sockets_
  const UniqueFd sockets_;                          // epoll: of connections, and wake_
  const UniqueFd wake_;                             // eventfd: something is in the inbox
  std::unique_ptr<Worker> connecting_, accepting_;  // made when first needed
  std::vector<Connection*> connections_;            // by the low half of their keys; null: free
  std::vector<Lent> lent_;
  Connection* ready_head_ = nullptr;
  Connection* ready_tail_ = nullptr;
  std::size_t ready_count_ = 0;
  std::uint64_t pass_ = 0;
  TimeNs next_deadline_ns_ = kNever;  // no connection's deadline is earlier

  std::atomic<bool> inbox_filled_{false};  // set under the mutex; poll() looks without it
  Mutex inbox_mutex_;
  std::vector<Adoption> inbox_ GUARDED_BY(inbox_mutex_);
};

}  // namespace penstock::ucx

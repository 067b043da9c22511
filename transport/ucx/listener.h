// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Takes in connections until their hello names the token of a waiting endpoint, then hands the
// socket to that endpoint's queue. What strangers may cost us before that is bounded: one greeting
// each, the hello time-out each, kMaxPending of them.
// Thread: progress() from one; await() and forget() from any. One mutex, none of it is data path.

#include <cstdint>
#include <memory>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/thread_annotations.h"
#include "transport/base/unique_fd.h"
#include "transport/ucx/frame.h"

namespace penstock::ucx {

class UcxQueue;

// A connection whose hello named a waiting endpoint's token. The rest of the hello, the address of
// the peer's worker, is still to be read.
struct Adoption {
  std::uint64_t serial = 0;  // of the endpoint
  UniqueFd fd;
  Greeting hello;
};

class Listener {
 public:
  static constexpr std::size_t kMaxPending = 128;

  // Owns `socket`, which listens.
  static Result<std::unique_ptr<Listener>> create(UniqueFd socket, TimeNs hello_timeout_ns,
                                                  const Clock& clock);

  // The next connection that names `token` goes to endpoint `serial` of `queue`; one that came
  // early goes at once. kAlreadyExists when another endpoint waits for the same token.
  Status await(const Token& token, UcxQueue& queue, std::uint64_t serial);
  // After it returns nothing is handed to that endpoint any more.
  void forget(const UcxQueue& queue, std::uint64_t serial);

  // Returns how many connections moved. Never blocks.
  std::size_t progress();
  int fd() const { return epoll_.get(); }

 private:
  struct Waiting {
    Token token;
    UcxQueue* queue;
    std::uint64_t serial;
  };
  // A connection that has not been handed over: its hello is incomplete, or names a token nobody
  // waits for yet (the acceptor may be a moment late).
  struct Pending {
    UniqueFd fd;
    std::uint64_t serial = 0;  // of this connection
    TimeNs deadline_ns = 0;
    Greeting hello;
    std::size_t received = 0;  // bytes of it
    bool complete() const { return received == sizeof hello; }
  };
  enum class Fate : std::uint8_t { kKeep, kHandedOver, kRefuse, kDrop };

  Listener(UniqueFd socket, UniqueFd epoll, UniqueFd timer, TimeNs hello_timeout_ns,
           const Clock& clock);
  std::size_t accept_all() REQUIRES(mutex_);
  void admit(UniqueFd fd) REQUIRES(mutex_);
  Fate read_hello(Pending& pending) REQUIRES(mutex_);
  Fate match(Pending& pending) REQUIRES(mutex_);
  void hand_over(Pending& pending, std::size_t waiting) REQUIRES(mutex_);
  std::size_t read_pending(std::uint64_t serial) REQUIRES(mutex_);
  std::size_t expire() REQUIRES(mutex_);
  void set_timer() REQUIRES(mutex_);

  const UniqueFd socket_;
  const UniqueFd epoll_;
  const UniqueFd timer_;  // wakes fd() when a hello is overdue
  const TimeNs hello_timeout_ns_;
  const Clock& clock_;

  Mutex mutex_;
  std::vector<Waiting> waiting_ GUARDED_BY(mutex_);
  std::vector<Pending> pending_ GUARDED_BY(mutex_);
  std::vector<Token> used_ GUARDED_BY(mutex_);  // the latest ones, a ring
  std::size_t used_at_ GUARDED_BY(mutex_) = 0;
  bool timer_set_ GUARDED_BY(mutex_) = false;
  std::uint64_t next_serial_ GUARDED_BY(mutex_) = 2;  // below: kListening, kTimer
};

}  // namespace penstock::ucx

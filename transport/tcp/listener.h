// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Takes in connections until their hello names the token of a waiting endpoint, then hands the
// socket to that endpoint's queue; any other token is refused at once. What strangers may cost us
// before that is bounded: kHelloBytes each, the hello time-out each, kMaxPending of them.
// Thread: progress() from one; await() and forget() from any. One mutex, none of it is data path.

#include <cstdint>
#include <memory>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/thread_annotations.h"
#include "transport/base/unique_fd.h"
#include "transport/socket/socket.h"
#include "transport/tcp/counters.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/tls_link.h"

namespace penstock::tcp {

class TcpQueue;

class Listener {
 public:
  static constexpr std::size_t kMaxPending = 128;

  struct Options {
    TimeNs hello_timeout_ns = 0;
    socket::Options sockets;
    const TlsSetup* tls = nullptr;  // outlives the listener; none: plain
  };
  // Owns `socket`, which listens; counts in `counters`, which is its alone.
  static Result<std::unique_ptr<Listener>> create(UniqueFd socket, const Options& options,
                                                  TcpCounters& counters, const Clock& clock);

  // The next connection that names `token` goes to endpoint `serial` of `queue`. kAlreadyExists
  // when another endpoint waits for the same token.
  Status await(const Token& token, TcpQueue& queue, std::uint64_t serial);
  // After it returns nothing is handed to that endpoint any more.
  void forget(const TcpQueue& queue, std::uint64_t serial);

  // Returns how many connections moved. Never blocks.
  std::size_t progress();
  int fd() const { return epoll_.get(); }

 private:
  struct Waiting {
    Token token;
    TcpQueue* queue;
    std::uint64_t serial;
  };
  struct Pending {  // a connection whose hello is incomplete
    UniqueFd fd;
    std::unique_ptr<TlsLink> tls;  // above what it uses: goes first
    bool secured = false;          // its handshake is over
    std::uint64_t serial = 0;      // of this connection
    TimeNs deadline_ns = 0;
    std::array<std::byte, kHelloBytes> bytes{};
    std::size_t received = 0;
    FrameHeader hello{};
    Token token() const;
  };
  enum class Fate : std::uint8_t { kKeep, kHandedOver, kRefuse, kDrop };

  Listener(UniqueFd socket, UniqueFd epoll, UniqueFd timer, const Options& options,
           TcpCounters& counters, const Clock& clock);
  std::size_t accept_all() REQUIRES(mutex_);
  void admit(UniqueFd fd) REQUIRES(mutex_);
  Fate read_hello(Pending& pending) REQUIRES(mutex_);
  Fate secure(Pending& pending) REQUIRES(mutex_);
  Fate match(Pending& pending) REQUIRES(mutex_);
  void hand_over(Pending& pending, std::size_t waiting) REQUIRES(mutex_);
  std::size_t read_pending(std::uint64_t serial) REQUIRES(mutex_);
  std::size_t expire() REQUIRES(mutex_);
  void set_timer() REQUIRES(mutex_);

  const UniqueFd socket_;
  const UniqueFd epoll_;
  const UniqueFd timer_;  // wakes fd() when a hello is overdue
  const Options options_;
  const Clock& clock_;

  Mutex mutex_;
  std::vector<Waiting> waiting_ GUARDED_BY(mutex_);
  std::vector<Pending> pending_ GUARDED_BY(mutex_);
  TcpCounters& counters_ GUARDED_BY(mutex_);
  bool timer_set_ GUARDED_BY(mutex_) = false;
  std::uint64_t next_serial_ GUARDED_BY(mutex_) = 2;  // below: kListening, kTimer
};

}  // namespace penstock::tcp

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Takes in connections until their hello names the token of a waiting endpoint, then hands the
// peer to that endpoint's queue. Anyone else is refused at once and told why. What strangers may
// cost: kMaxPending sockets.
// Thread: progress() from one; await() and forget() from any. One mutex, none of it is data path.

#include <cstdint>
#include <memory>
#include <vector>

#include "transport/base/thread_annotations.h"
#include "transport/shm/endpoint.h"

namespace penstock::shm {

// What a refused connector learns.
Status refusal(Code code);

class Listener {
 public:
  static constexpr std::size_t kMaxPending = 128;

  // Owns `socket`, which listens.
  static Result<std::unique_ptr<Listener>> create(UniqueFd socket);

  // The next connection that names `token` goes to endpoint `serial` of `queue`. kAlreadyExists
  // when another endpoint waits for the same token.
  Status await(const Token& token, ShmQueue& queue, std::uint64_t serial);
  // After it returns nothing is handed to that endpoint any more.
  void forget(const ShmQueue& queue, std::uint64_t serial);

  // Returns how many connections moved. Never blocks.
  std::size_t progress();
  int fd() const { return epoll_.get(); }

 private:
  struct Waiting {
    Token token;
    ShmQueue* queue;
    std::uint64_t serial;
  };

  Listener(UniqueFd socket, UniqueFd epoll);
  std::size_t accept_all() REQUIRES(mutex_);
  bool greet(UniqueFd& connection) REQUIRES(mutex_);
  Code admit(UniqueFd& connection, Parcel parcel) REQUIRES(mutex_);

  const UniqueFd socket_;
  const UniqueFd epoll_;
  Mutex mutex_;
  std::vector<Waiting> waiting_ GUARDED_BY(mutex_);
  std::vector<UniqueFd> pending_ GUARDED_BY(mutex_);  // without a hello yet, oldest first
};

}  // namespace penstock::shm

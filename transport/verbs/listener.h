// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reads the token of each connection request and brings the request to the queue of the endpoint
// that waits for it, or refuses it there and then: a stranger never gets a queue pair.
// Thread: on_request() from one; await() and forget() from any. None of it is data path.

#include <cstdint>
#include <vector>

#include "transport/base/thread_annotations.h"
#include "transport/verbs/cm.h"
#include "transport/verbs/greeting.h"
#include "transport/verbs/rail.h"

namespace penstock::verbs {

class VerbsQueue;

// Refuses a connection request, with the reason for the peer, and gives up its id.
void refuse(const VerbsApi& api, rdma_cm_id* id, const Status& reason);

class Listener {
 public:
  explicit Listener(const VerbsApi& api) : api_(api) {}

  Status listen(const Rail& rail);
  // The connection that names `token` goes to endpoint `serial` of `queue`, its first queue pair
  // once, the further ones until forget(). kAlreadyExists when another endpoint has the same token.
  Status await(const Token& token, VerbsQueue& queue, std::uint64_t serial);
  // After it returns nothing is handed to that endpoint any more.
  void forget(const VerbsQueue& queue, std::uint64_t serial);
  void on_request(const CmEvent& request);

 private:
  struct Waiting {
    Token token;
    VerbsQueue* queue;
    std::uint64_t serial;
    bool taken = false;  // the first queue pair has come
  };
  Status match(rdma_cm_id* id, const Greeting& greeting) EXCLUDES(mutex_);
  std::size_t rails_ = 0;

  const VerbsApi& api_;
  Mutex mutex_;
  std::vector<Waiting> waiting_ GUARDED_BY(mutex_);
};

}  // namespace penstock::verbs

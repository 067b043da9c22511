// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a device says without being asked: a port that went down, a queue that broke. Each is told
// to the queues it concerns; their endpoints end with a reason instead of waiting for time-outs.
//
// A port's news comes to each device by a context of its own. News of queue pairs and queues comes
// by rdma_cm's context of the NIC, which all devices of the process share and which tells each
// event once: whichever reads it passes it on to all that have a rail on that context. Each knows
// its own by number or address; what is nobody's, of another user of rdma_cm, is dropped.
// Thread: take() on the device's progress thread; the rest from any.

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "transport/base/thread_annotations.h"
#include "transport/verbs/queue.h"
#include "transport/verbs/rail.h"

namespace penstock::verbs {

class AsyncEvents {
 public:
  explicit AsyncEvents(std::span<const std::unique_ptr<Rail>> rails);  // they outlive it
  ~AsyncEvents();
  AsyncEvents(const AsyncEvents&) = delete;
  AsyncEvents& operator=(const AsyncEvents&) = delete;
  Status start();  // reading must not block

  void add(VerbsQueue& queue);
  void remove(VerbsQueue& queue);
  int queues_made() const;

  std::size_t take();

 private:
  std::size_t take_port_events(Rail& rail);
  static std::size_t take_shared_events(const Rail& rail);
  void act_on_port(Rail& rail, const ibv_async_event& event);
  // Of an object in `context`. Any device's progress thread.
  void hear(const ibv_context* context, const ibv_async_event& event);
  void tell(const Notice& notice);

  const std::span<const std::unique_ptr<Rail>> rails_;
  mutable Mutex mutex_;
  std::vector<VerbsQueue*> queues_ GUARDED_BY(mutex_);
  int made_ GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock::verbs

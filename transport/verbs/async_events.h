// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a device says without being asked: a port that went down, a queue that broke. Each is told
// to the queues it concerns; their endpoints end with a reason instead of waiting for time-outs.
// Thread: take() on the device's progress thread; the rest from any.

#include <cstddef>
#include <vector>

#include "transport/base/thread_annotations.h"
#include "transport/verbs/queue.h"
#include "transport/verbs/rail.h"

namespace penstock::verbs {

class AsyncEvents {
 public:
  explicit AsyncEvents(Rail& rail) : rail_(rail) {}
  Status start();  // reading must not block

  void add(VerbsQueue& queue);
  void remove(VerbsQueue& queue);
  int queues_made() const;

  std::size_t take();

 private:
  std::size_t take_from(ibv_context* context, bool of_port);
  void act_on(const ibv_async_event& event, bool of_port);
  void tell(const Notice& notice);

  Rail& rail_;
  mutable Mutex mutex_;
  std::vector<VerbsQueue*> queues_ GUARDED_BY(mutex_);
  int made_ GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock::verbs

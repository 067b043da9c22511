// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a device says without being asked: a port that went down, a queue that broke. Each is told
// to the queues it concerns; their endpoints end with a reason instead of waiting for time-outs.
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
  explicit AsyncEvents(std::span<const std::unique_ptr<Rail>> rails) : rails_(rails) {}
  Status start();  // reading must not block

  void add(VerbsQueue& queue);
  void remove(VerbsQueue& queue);
  int queues_made() const;

  std::size_t take();

 private:
  std::size_t take_from(Rail& rail, ibv_context* context);
  void act_on(Rail& rail, const ibv_async_event& event, bool of_port);
  void tell(const Notice& notice);

  const std::span<const std::unique_ptr<Rail>> rails_;
  mutable Mutex mutex_;
  std::vector<VerbsQueue*> queues_ GUARDED_BY(mutex_);
  int made_ GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock::verbs

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One lane's verbs objects on one rail: completion queue, shared receive queue, event channel, and
// which path each queue pair belongs to. The proof that the completion queue cannot overflow is
// reserve(): every path says how many completions it can have outstanding, and the queue is resized
// before the path exists. Thread: the queue's owner.

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "transport/verbs/receive_pool.h"

namespace penstock::verbs {

class Path;

class RailQueue {
 public:
  // `vector` spreads the lanes over the device's interrupts.
  static Result<std::unique_ptr<RailQueue>> create(Rail& rail, int vector);
  ~RailQueue();
  RailQueue(const RailQueue&) = delete;
  RailQueue& operator=(const RailQueue&) = delete;

  Rail& rail() const { return rail_; }
  ibv_cq* cq() const { return cq_; }
  ReceivePool& receives() { return *receives_; }
  int fd() const { return channel_->fd; }

  // Room for a path with so many sends and receives. kExhausted naming both numbers.
  Status reserve(std::uint32_t sends, std::uint32_t receives);
  void release(std::uint32_t sends, std::uint32_t receives);
  void attach(std::uint32_t qp, Path& path) { paths_[qp] = &path; }
  void detach(std::uint32_t qp) { paths_.erase(qp); }
  void fail(std::uint32_t qp, const Status& reason);  // if it is one of ours

  // Bytes of writes and messages that its paths have handed to the device and not seen completed.
  std::uint64_t outstanding_bytes() const { return outstanding_bytes_; }
  void add_outstanding(std::uint64_t bytes) { outstanding_bytes_ += bytes; }
  void drop_outstanding(std::uint64_t bytes) { outstanding_bytes_ -= bytes; }

  // Takes a batch of completions and hands them to their paths. How many there were.
  std::size_t take_completions();
  // Asks for an event at the next completion, unless one is under way.
  Status request_event();
  void take_event();  // at most one is under way

 private:
  explicit RailQueue(Rail& rail) : rail_(rail) {}
  void dispatch(const ibv_wc& completion);

  Rail& rail_;
  ibv_comp_channel* channel_ = nullptr;
  ibv_cq* cq_ = nullptr;
  std::unique_ptr<ReceivePool> receives_;
  std::uint32_t reserved_ = 0;  // completions its paths may have outstanding
  std::uint64_t outstanding_bytes_ = 0;
  bool requested_ = false;
  std::unordered_map<std::uint32_t, Path*> paths_;
};

}  // namespace penstock::verbs

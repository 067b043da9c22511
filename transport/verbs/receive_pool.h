// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The shared receive queue of one lane on one rail. Its receives have no buffer: writes land where
// they say, and all that arrives here is that something arrived. Each path reserves as many as it
// promises its peer; a batch more is kept posted, so that refilling in batches never falls below
// the promises. Thread: the queue's owner.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/verbs/rail.h"

namespace penstock::verbs {

class ReceivePool {
 public:
  static constexpr std::uint32_t kBatch = 16;
  static constexpr std::uint64_t kMark = std::uint64_t{1} << 63;  // set in each wr_id of a receive

  static Result<std::unique_ptr<ReceivePool>> create(Rail& rail);
  ~ReceivePool();
  ReceivePool(const ReceivePool&) = delete;
  ReceivePool& operator=(const ReceivePool&) = delete;

  ibv_srq* get() const { return srq_; }

  // Posts `count` more. kExhausted naming both numbers when the device holds no more.
  Status reserve(std::uint32_t count);
  void release(std::uint32_t count) { reserved_ -= count; }  // they run out by use
  // A completion took the receive `wr_id`. False: it is not outstanding, the completion is a ghost.
  bool take(std::uint64_t wr_id);
  // Before credits leave: what was taken is posted again, once it makes a batch.
  Status replenish();

 private:
  ReceivePool(Rail& rail, Domain* home, std::uint32_t capacity);
  Status post(std::uint32_t count);
  std::uint32_t wanted() const { return reserved_ == 0 ? 0 : reserved_ + kBatch; }

  Rail& rail_;
  Domain* const home_;  // a shared receive queue has one; receives without buffers do not mind
  ibv_srq* srq_ = nullptr;
  std::uint32_t reserved_ = 0;
  std::uint32_t posted_ = 0;
  std::vector<std::uint32_t> generation_;  // of each slot; odd while its receive is outstanding
  std::vector<std::uint32_t> free_;        // slots, a stack
  std::array<ibv_recv_wr, kBatch> chain_{};
};

}  // namespace penstock::verbs

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/receive_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "transport/base/check.h"

namespace penstock::verbs {
namespace {

// Receives without buffers are tens of bytes each; resizing a shared receive queue is what drivers
// do worst, so it is made for as many endpoints as a lane may get.
constexpr std::uint32_t kReceives = 16'384;

}  // namespace

Result<std::unique_ptr<ReceivePool>> ReceivePool::create(Rail& rail) {
  PENSTOCK_ASSIGN_OR_RETURN(Domain * home, rail.acquire(kAnyScope));
  const std::uint32_t capacity = std::min(kReceives, rail.limits().receives);
  std::unique_ptr<ReceivePool> self(new ReceivePool(rail, home, capacity));
  ibv_srq_init_attr attributes{};
  attributes.attr.max_wr = capacity;
  attributes.attr.max_sge = 1;
  self->srq_ = rail.api().ibv_create_srq(home->pd, &attributes);
  if (self->srq_ == nullptr)
    return Status::system(
        fmt::format("create a shared receive queue of {} on {}", capacity, rail.name()), errno);
  return self;
}

ReceivePool::ReceivePool(Rail& rail, Domain* home, std::uint32_t capacity)
    : rail_(rail), home_(home), generation_(capacity, 0) {
  for (std::uint32_t i = capacity; i > 0; --i) free_.push_back(i - 1);
}

ReceivePool::~ReceivePool() {
  if (srq_ != nullptr)
    CHECK(rail_.api().ibv_destroy_srq(srq_) == 0, "a shared receive queue is still in use");
  rail_.release(home_);
}

Status ReceivePool::reserve(std::uint32_t count) {
  if (reserved_ + count + kBatch > generation_.size())
    return Status(Code::kExhausted,
                  fmt::format("the connections of this queue need {} receives, its shared receive "
                              "queue on {} holds {}",
                              reserved_ + count + kBatch, rail_.name(), generation_.size()))
        .with_hint("use more lanes, or queues of less depth");
  reserved_ += count;
  while (posted_ < wanted()) PENSTOCK_RETURN_IF_ERROR(post(wanted() - posted_));
  return {};
}

bool ReceivePool::take(std::uint64_t wr_id) {
  const auto slot = static_cast<std::uint32_t>(wr_id);
  const auto generation = static_cast<std::uint32_t>((wr_id & ~kMark) >> 32);
  if (slot >= generation_.size() || (generation_[slot] & 0x7fffffffU) != generation ||
      (generation & 1U) == 0)
    return false;
  ++generation_[slot];
  free_.push_back(slot);
  --posted_;
  return true;
}

Status ReceivePool::replenish() {
  while (posted_ + kBatch <= wanted()) PENSTOCK_RETURN_IF_ERROR(post(kBatch));
  return {};
}

Status ReceivePool::post(std::uint32_t count) {
  count = std::min(count, kBatch);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    const std::uint64_t generation = ++generation_[slot] & 0x7fffffffU;
    chain_[i] = {};
    chain_[i].wr_id = kMark | generation << 32 | slot;
    chain_[i].next = i + 1 < count ? &chain_[i + 1] : nullptr;
  }
  ibv_recv_wr* bad = nullptr;
  const int error = ibv_post_srq_recv(srq_, chain_.data(), &bad);
  if (error == 0) {
    posted_ += count;
    return {};
  }
  return Status::system(fmt::format("post {} receives on {}", count, rail_.name()), error);
}

}  // namespace penstock::verbs

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/rail_queue.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/base/check.h"
#include "transport/verbs/path.h"

namespace penstock::verbs {
namespace {

constexpr int kFirstCompletions = 1'024;  // grows with the paths
constexpr int kCompletionBatch = 32;

}  // namespace

Result<std::unique_ptr<RailQueue>> RailQueue::create(Rail& rail, int vector) {
  const VerbsApi& api = rail.api();
  std::unique_ptr<RailQueue> self(new RailQueue(rail));
  self->channel_ = api.ibv_create_comp_channel(rail.verbs());
  if (self->channel_ == nullptr)
    return Status::system(fmt::format("create a completion channel on {}", rail.name()), errno);
  const int flags = ::fcntl(self->channel_->fd, F_GETFL);
  if (flags < 0 || ::fcntl(self->channel_->fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return Status::system("make a completion channel non-blocking", errno);
  const int first = std::min(kFirstCompletions, static_cast<int>(rail.limits().completions));
  self->cq_ = api.ibv_create_cq(rail.verbs(), first, nullptr, self->channel_,
                                vector % rail.limits().vectors);
  if (self->cq_ == nullptr)
    return Status::system(fmt::format("create a completion queue of {} on {}", first, rail.name()),
                          errno);
  PENSTOCK_ASSIGN_OR_RETURN(self->receives_, ReceivePool::create(rail));
  return self;
}

RailQueue::~RailQueue() {
  receives_.reset();
  if (cq_ != nullptr)
    CHECK(rail_.api().ibv_destroy_cq(cq_) == 0, "a completion queue is still in use");
  if (channel_ != nullptr) rail_.api().ibv_destroy_comp_channel(channel_);
}

Status RailQueue::reserve(std::uint32_t sends, std::uint32_t receives) {
  const std::uint32_t needed = reserved_ + sends + receives;
  const auto held = static_cast<std::uint32_t>(cq_->cqe);
  if (needed > held) {
    const std::uint32_t limit = rail_.limits().completions;
    if (needed > limit)
      return Status(Code::kExhausted,
                    fmt::format("the connections of this queue can have {} completions "
                                "outstanding, a completion queue of {} holds {}",
                                needed, rail_.name(), limit))
          .with_hint("use more lanes, or queues of less depth");
    const std::uint32_t wanted = std::min(std::max(needed, 2 * held), limit);
    if (const int error = rail_.api().ibv_resize_cq(cq_, static_cast<int>(wanted)); error != 0)
      return Status(Code::kExhausted, fmt::format("resize a completion queue of {} from {} to {}",
                                                  rail_.name(), held, wanted))
          .with_system(error);
  }
  PENSTOCK_RETURN_IF_ERROR(receives_->reserve(receives));
  reserved_ = needed;
  return {};
}

void RailQueue::release(std::uint32_t sends, std::uint32_t receives) {
  reserved_ -= sends + receives;
  receives_->release(receives);
}

std::size_t RailQueue::take_completions() {
  std::array<ibv_wc, kCompletionBatch> batch;
  const int count = ibv_poll_cq(cq_, kCompletionBatch, batch.data());
  for (int i = 0; i < count; ++i) dispatch(batch[static_cast<std::size_t>(i)]);
  if (count <= 0) return 0;
  if (!receives_->replenish().ok()) add(rail_.counts().other_errors);
  return static_cast<std::size_t>(count);
}

void RailQueue::dispatch(const ibv_wc& completion) {
  const bool received = (completion.wr_id & ReceivePool::kMark) != 0;
  const bool real = !received || receives_->take(completion.wr_id);
  const auto path = paths_.find(completion.qp_num);
  if (!real || path == paths_.end())
    add(rail_.counts().strays);
  else if (received)
    path->second->on_received(completion);
  else
    path->second->on_sent(completion);
}

void RailQueue::fail(std::uint32_t qp, const Status& reason) {
  const auto path = paths_.find(qp);
  if (path != paths_.end()) path->second->lost(reason);
}

Status RailQueue::request_event() {
  if (requested_) return {};
  if (const int error = ibv_req_notify_cq(cq_, 0); error != 0)
    return Status::system(fmt::format("request a completion event on {}", rail_.name()), error);
  requested_ = true;
  return {};
}

void RailQueue::take_event() {
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  if (rail_.api().ibv_get_cq_event(channel_, &cq, &context) != 0) return;
  rail_.api().ibv_ack_cq_events(cq_, 1);
  requested_ = false;
}

}  // namespace penstock::verbs

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/path.h"

#include <endian.h>
#include <fmt/format.h>

#include "transport/base/check.h"
#include "transport/verbs/completion_error.h"
#include "transport/verbs/endpoint.h"

// Its accounts: slots, credits, arrivals. How it connects and ends is path_connect.cc.

namespace penstock::verbs {
namespace {

// The immediate of a message: its length, or with this bit the count of receives returned.
constexpr std::uint32_t kCreditMark = 1U << 31;

}  // namespace

ibv_send_wr& Path::claim(const Slot& slot) {
  CHECK(head_ - tail_ < kAllSlots && chained_ < kChain, "a send queue overflows");
  ibv_send_wr& work = chain_[chained_];
  work = {};
  work.wr_id = head_;
  work.sg_list = &sges_[chained_];
  if (chained_ > 0) chain_[chained_ - 1].next = &work;
  ++chained_;
  slots_[head_++ % kAllSlots] = slot;
  outstanding_bytes_ += slot.bytes;
  queue_.add_outstanding(slot.bytes);
  unsignalled_bytes_ += slot.bytes;
  if (unsignalled_bytes_ >= kSignalBytes) signal(work);
  return work;
}

void Path::signal(ibv_send_wr& work) {
  if ((work.send_flags & IBV_SEND_SIGNALED) != 0) return;
  work.send_flags |= IBV_SEND_SIGNALED;
  unsignalled_bytes_ = 0;
  add(rail().counts().signalled);
}

Status Path::ring() {
  if (chained_ == 0) return {};
  RailCounts& counts = rail().counts();
  add(counts.posts, chained_);
  add(counts.doorbells);
  signal(chain_[chained_ - 1]);
  chained_ = 0;
  ibv_send_wr* bad = nullptr;
  const int error = ibv_post_send(id_->qp, chain_.data(), &bad);
  if (error == 0) return {};
  head_ = bad == nullptr ? chain_[0].wr_id : bad->wr_id;  // what the device did not take
  return Status(Code::kConnectionLost, fmt::format("{} refuses to send, with {} of {} slots in use",
                                                   rail().name(), head_ - tail_, kAllSlots))
      .with_system(error);
}

void Path::on_sent(const ibv_wc& completion) {
  if (completion.wr_id < tail_ || completion.wr_id >= head_) return add(rail().counts().strays);
  const bool ok = completion.status == IBV_WC_SUCCESS;
  // The send queue works in order: what lies before it succeeded, signalled or not.
  while (tail_ < completion.wr_id) retire(slots_[tail_++ % kAllSlots]);
  const Slot slot = slots_[tail_++ % kAllSlots];
  if (ok)
    retire(slot);
  else
    fail(slot, completion);
}

void Path::settle(const Slot& slot) {
  outstanding_bytes_ -= slot.bytes;
  queue_.drop_outstanding(slot.bytes);
  if (slot.kind == Slot::kCredit) --credits_flying_;
  if (slot.kind == Slot::kDrain) drained_ = true;
}

void Path::retire(const Slot& slot) {
  settle(slot);
  if (owner_ == nullptr) return;
  if (slot.kind == Slot::kLast) owner_->on_post_done(slot.post);
  owner_->wake();
}

void Path::fail(const Slot& slot, const ibv_wc& completion) {
  RailCounts& counts = rail().counts();
  if (completion.status == IBV_WC_RETRY_EXC_ERR)
    add(counts.retry_errors);
  else if (completion.status == IBV_WC_RNR_RETRY_EXC_ERR)
    add(counts.rnr_errors);
  else if (completion.status != IBV_WC_WR_FLUSH_ERR)
    add(counts.other_errors);
  settle(slot);
  if (owner_ == nullptr) return;
  owner_->wake();
  if (state_ == State::kShut) return;
  if (completion.status == IBV_WC_RETRY_EXC_ERR || completion.status == IBV_WC_LOC_QP_OP_ERR)
    owner_->on_rail_failed(*this);
  lost(completion_error(api(), completion, rail().name(), peer_));
}

void Path::on_received(const ibv_wc& completion) {
  if (owner_ == nullptr || !live_) return;
  if (completion.status != IBV_WC_SUCCESS) {
    if (state_ != State::kShut) lost(completion_error(api(), completion, rail().name(), peer_));
    return;
  }
  const std::uint32_t immediate = be32toh(completion.imm_data);
  if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM)
    return on_arrival({index_, false, immediate, completion.byte_len});
  if (completion.opcode != IBV_WC_RECV || (completion.wc_flags & IBV_WC_WITH_IMM) == 0)
    return lost(Status(Code::kProtocol, "the peer sends what no Penstock device sends"));
  if ((immediate & kCreditMark) != 0) return on_credit(immediate & ~kCreditMark);
  if (immediate > owner_->message_bytes())
    return lost(Status(Code::kProtocol,
                       fmt::format("the peer announces a message of {} bytes", immediate)));
  on_arrival({index_, true, message_slot_in_, immediate});
  message_slot_in_ = (message_slot_in_ + 1) % window_;
}

void Path::on_arrival(const Arrival& arrival) {
  if (arrivals_ - returned_ >= window_)
    return lost(Status(Code::kProtocol, "the peer sends more than its credits allow"));
  ++arrivals_;
  // The peer sends, so the connection is up whatever rdma_cm has told us yet.
  if (state_ == State::kAnswered) {
    state_ = State::kUp;
    owner_->on_path_up(*this);
  }
  owner_->on_arrival(arrival);
}

void Path::on_credit(std::uint32_t count) {
  const auto known = static_cast<std::uint32_t>(limit_ - peer_window_);
  const std::uint32_t more = (count - known) & ~kCreditMark;
  if (more > sent_ - (limit_ - peer_window_))
    return lost(Status(Code::kProtocol, "the peer returns credits it was never sent"));
  limit_ += more;
  owner_->wake();
}

Status Path::return_credits() {
  if (consumed_ - returned_ < (window_ + 1) / 2 || credits_flying_ == kCreditSlots ||
      state_ != State::kUp)
    return {};
  PENSTOCK_RETURN_IF_ERROR(ring());  // keeps the order of what was chained before
  returned_ = consumed_;
  ++credits_flying_;
  add(rail().counts().credits_sent);
  ibv_send_wr& work = claim({.kind = Slot::kCredit});
  work.opcode = IBV_WR_SEND_WITH_IMM;
  work.imm_data = htobe32((static_cast<std::uint32_t>(returned_) & ~kCreditMark) | kCreditMark);
  return ring();
}

}  // namespace penstock::verbs

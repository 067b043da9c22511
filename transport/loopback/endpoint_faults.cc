// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// An endpoint on a fabric with a fault plan: what happens when, and what gets through a break.

#include <algorithm>

#include "transport/loopback/endpoint.h"
#include "transport/loopback/switchboard.h"

namespace penstock::loopback {
namespace {

// How long a sender waits before it tries a receiver that was not ready; InfiniBand's timers offer
// 10 µs to 655 ms.
constexpr TimeNs kNotReadyNs = 20 * kMicrosecond;

}  // namespace

void LoopbackEndpoint::on_due(std::uint64_t what) {
  switch (what) {
    case kDeliver:
      return deliver_due();
    case kComplete:
      return complete_due();
    case kKnock:
      if (state_ == State::kConnecting) device_.switchboard().knock(*this, knock_address_);
      return;
    case kEstablish:
      return signal_established();
    case kDeadline:
      return;  // the clock has got there; poll() notices
    default:
      return signal_lost(static_cast<Code>(what - kLose));
  }
}

void LoopbackEndpoint::knock_later(const std::string& address) {
  knock_address_ = address;
  timeline_->schedule(timeline_->now_ns() + timeline_->draw_data_delay(), handle_, kKnock);
}

void LoopbackEndpoint::lose_later(Code code) {
  timeline_->schedule(timeline_->now_ns() + timeline_->draw_data_delay(), handle_,
                      kLose + static_cast<std::uint64_t>(code));
}

// The last `count` posts set out; each may be the one at which the connection breaks.
void LoopbackEndpoint::set_out(std::size_t count) {
  const FaultPlan& plan = timeline_->plan();
  bool cut = false;
  for (std::size_t i = ops_.size() - count; i < ops_.size(); ++i) {
    Op& op = ops_[i];
    op.overtakes = op.unordered && timeline_->draw(plan.reorder_per_million);
    op.due_ns = std::max(established_ns_, timeline_->now_ns() + timeline_->draw_data_delay());
    if (!op.overtakes) op.due_ns = last_due_ns_ = std::max(last_due_ns_, op.due_ns);
    timeline_->schedule(op.due_ns, handle_, kDeliver);
    cut = timeline_->draw(plan.cut_per_million) || cut;
  }
  if (cut) device_.switchboard().cut(*connection_);
}

void LoopbackEndpoint::deliver_due() {
  bool in_line = true;  // nothing that keeps its place waits further in front
  for (std::size_t i = 0; i < ops_.size() && state_ == State::kConnected; ++i) {
    Op& op = ops_[i];
    if (op.landed && op.outcome != Code::kOk) return;  // refused: the rest is not delivered
    if (op.landed) continue;
    if (op.due_ns > timeline_->now_ns() || !(in_line || op.overtakes)) {
      in_line = in_line && op.overtakes;
      continue;
    }
    const Code code = broken_ ? Code::kConnectionLost : deliver(op);
    if (code == Code::kConnectionLost) return time_out();
    if (code == kNotReady) {
      timeline_->schedule(timeline_->now_ns() + kNotReadyNs, handle_, kDeliver);
      return;
    }
    op.landed = true;
    op.outcome = code;
    op.done_ns = timeline_->now_ns() + timeline_->draw_data_delay();
    timeline_->schedule(op.done_ns, handle_, kComplete);
    if (code != Code::kOk) return;
  }
}

// The peer's gate is closed. Either we shall be told soon, or nobody is left to tell us.
void LoopbackEndpoint::time_out() {
  if (timing_out_) return;
  timing_out_ = true;
  timeline_->schedule(timeline_->now_ns() + timeline_->plan().retry_timeout_ns, handle_,
                      kLose + static_cast<std::uint64_t>(Code::kConnectionLost));
}

void LoopbackEndpoint::time_out_if_posting() {
  if (!ops_.empty()) time_out();
}

void LoopbackEndpoint::complete_due() {
  while (!ops_.empty() && ops_.front().landed && ops_.front().done_ns <= timeline_->now_ns()) {
    const Code code = ops_.front().outcome;
    complete(code);
    if (code == Code::kOk) continue;
    fail(Status(code, "the peer's memory refused a post"));
    return;
  }
}

void LoopbackEndpoint::land_some() {
  if (state_ != State::kConnected || broken_) return;
  broken_ = true;  // nothing else is delivered, and the completions come with the loss
  const FaultPlan& plan = timeline_->plan();
  std::vector<std::size_t> waiting;  // in the order of the posts, up to one that was refused
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    if (ops_[i].landed && ops_[i].outcome != Code::kOk) break;
    if (!ops_[i].landed) waiting.push_back(i);
  }
  std::size_t landed = 0;
  if (!waiting.empty() && timeline_->draw(plan.applied_at_cut_per_million)) {
    const std::uint64_t landing = 1 + timeline_->draw_below(waiting.size());
    while (landed < landing && deliver(ops_[waiting[landed]]) == Code::kOk) ++landed;
  }
  for (std::size_t i = 0; i < ops_.size(); ++i) ops_[i].done_ns = kNever;
  if (landed == waiting.size()) return;
  Op torn = ops_[waiting[landed]];
  if (torn.opcode != Opcode::kWrite || torn.length == 0 ||
      !timeline_->draw(plan.torn_at_cut_per_million))
    return;
  torn.has_immediate = false;
  torn.landing = timeline_->draw_below(torn.length);
  (void)deliver(torn);  // where the peer's memory refuses it, nothing lands
}

}  // namespace penstock::loopback

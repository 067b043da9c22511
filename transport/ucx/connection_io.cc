// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "transport/base/check.h"
#include "transport/parts/post.h"
#include "transport/ucx/connection.h"
#include "transport/ucx/queue.h"

// The traffic of a connection: frames out, and what a step makes of those that came
// (connection_arrivals.cc).

namespace penstock::ucx {
namespace {

// An acknowledgement of its own leaves when this much is unacknowledged and nothing else goes out;
// earlier only when the connection falls silent.
constexpr std::uint64_t kAckFrames = 64;
constexpr std::uint64_t kAckBytes = std::uint64_t{1} << 20;

FrameType frame_type(Opcode opcode) {
  switch (opcode) {
    case Opcode::kWrite:
      return FrameType::kWrite;
    case Opcode::kRead:
      return FrameType::kReadRequest;
    case Opcode::kSend:
      return FrameType::kSend;
  }
  return FrameType::kWrite;
}

}  // namespace

void Connection::push(const WorkRequest& request) {
  const std::uint64_t sequence = ++posted_;
  Post& post = post_at(sequence);
  post = {.header = {}, .owner = this, .local = {}, .tag = request.tag, .opcode = request.opcode};
  if (request.length > 0)
    post.local = request.local->bytes().subspan(request.local_offset, request.length);
  FrameHeader& header = post.header;
  header.type = frame_type(request.opcode);
  header.sequence = sequence;
  header.length = request.length;
  if (request.has_immediate) {
    header.flags = kFlagImmediate;
    header.immediate = request.immediate;
  }
  if (request.opcode != Opcode::kSend && request.length > 0) {
    header.incarnation = request.remote->incarnation;
    header.key = request.remote->key[key_slot(ProviderKind::kUcx)];
    header.offset = request.remote_offset;
  }
  // A message is lent to its reader where UCX received it, so it must not be fetched later.
  const unsigned flags =
      request.opcode == Opcode::kSend ? static_cast<unsigned>(UCP_AM_SEND_FLAG_EAGER) : 0U;
  const std::span<const std::byte> payload =
      request.opcode == Opcode::kRead ? std::span<const std::byte>() : post.local;
  send(header, payload, flags, on_post_sent, &post, post.sending);
}

void Connection::send(FrameHeader& header, std::span<const std::byte> payload, unsigned flags,
                      ucp_send_nbx_callback_t callback, void* user, bool& under_way) {
  if (line_failed_) return;  // what explains it is on its way
  header.to = peer_key_;
  header.ack = announced_ack_ = reported_;
  unacked_bytes_ = 0;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.cb.send = callback;
  param.user_data = user;
  param.flags = flags;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  const ucs_status_ptr_t request = api_.ucp_am_send_nbx(
      line_->endpoint, kMessageId, &header, sizeof header, payload.data(), payload.size(), &param);
  if (UCS_PTR_IS_ERR(request)) return on_line_failed(UCS_PTR_STATUS(request));
  count(queue_.counts().frames_sent, 1);
  count(queue_.counts().bytes_sent, payload.size());
  under_way = request != nullptr;
  if (under_way) ++under_way_;
}

void Connection::over() {
  --under_way_;
  queue_.mark_ready(*this);
}

void Connection::on_post_sent(void* request, ucs_status_t status, void* user) {
  Post& post = *static_cast<Post*>(user);
  Connection& self = *post.owner;
  post.sending = false;
  if (status != UCS_OK) self.on_line_failed(status);
  self.over();
  self.api_.ucp_request_free(request);
}

void Connection::on_response_sent(void* request, ucs_status_t status, void* user) {
  Arrival& arrival = *static_cast<Arrival*>(user);
  Connection& self = *arrival.owner;
  arrival.guard.release();
  arrival.state = Arrival::State::kLanded;
  if (status != UCS_OK) self.on_line_failed(status);
  self.over();
  self.api_.ucp_request_free(request);
}

void Connection::on_ack_sent(void* request, ucs_status_t status, void* user) {
  Connection& self = *static_cast<Connection*>(user);
  self.ack_sending_ = false;
  if (status != UCS_OK) self.on_line_failed(status);
  self.over();
  self.api_.ucp_request_free(request);
}

bool Connection::acknowledge(std::uint64_t sequence) {
  if (sequence > posted_) return false;
  if (sequence > acked_) acked_ = sequence;  // frames may overtake one another
  return true;
}

bool Connection::oldest_done() const {
  if (retired_ == posted_) return false;
  const Post& post = post_at(retired_ + 1);
  if (post.sending || post.landing) return false;
  return post.opcode == Opcode::kRead ? post.landed : acked_ > retired_;
}

bool Connection::step(EventSink& sink) {
  if (line_failed_ && state_ < State::kEnding) readable_ = true;
  if (readable_ && state_ < State::kEnding) read_socket();
  if (std::exchange(announce_, false)) {
    if (state_ == State::kOpen && sink.room())
      sink.emit({.event = Event::kConnected, .endpoint = options_.id, .message = {}});
    else
      announce_ = state_ == State::kOpen;
  }
  if (state_ == State::kOpen && !announce_) {
    retire(sink);  // before new work: the oldest completions first
    serve();
    report(sink);
  }
  // While writes are landing, word of them soon follows: one acknowledgement for many.
  const bool idle = !std::exchange(arrived_, false) && landing_writes_ == 0;
  if (state_ == State::kOpen) acknowledge_if_due(idle);
  if (line_failed_ && state_ < State::kEnding && queue_.now_ns() >= give_up_ns_)
    lost(line_error_, 0);
  if (state_ == State::kEnding) finish_ending(sink);
  if (state_ == State::kEnding || announce_ || (line_failed_ && state_ != State::kEnded))
    return true;
  return state_ == State::kOpen && (!sink.room() || (owes_ack() && !ack_sending_));
}

bool Connection::settle() {
  if (state_ == State::kOpen) acknowledge_if_due(true);
  return state_ == State::kEnding || announce_ || line_failed_ || readable_ || arrived_ ||
         oldest_done() || (owes_ack() && state_ == State::kOpen);
}

void Connection::retire(EventSink& sink) {
  while (sink.room() && oldest_done()) {
    complete(post_at(retired_ + 1), Code::kOk, sink);
    ++retired_;
  }
}

// A read sees the writes before it, so it is answered when they have landed.
void Connection::serve() {
  for (;; ++served_) {
    Arrival& arrival = arrival_at(served_ + 1);
    if (arrival.state == Arrival::State::kReadAsked) respond(arrival);
    const bool passed =
        arrival.state == Arrival::State::kLanded || arrival.state == Arrival::State::kResponding;
    // In a full ring the next one's place is the oldest's, which is not reported yet.
    if (!passed || arrival.header.sequence != served_ + 1) return;
  }
}

void Connection::respond(Arrival& arrival) {
  const FrameHeader& asked = arrival.header;
  if (asked.length > 0) {
    RegionTable::Claim claim = regions_.resolve({.incarnation = asked.incarnation,
                                                 .key = asked.key,
                                                 .offset = asked.offset,
                                                 .length = asked.length,
                                                 .wanted = Access::kRemoteRead,
                                                 .scope = options_.scope});
    if (claim.code != Code::kOk) {
      arrival.state = Arrival::State::kRefused;
      arrival.code = claim.code;
      poisoned_ = true;
      return;
    }
    arrival.guard = std::move(claim.guard);
    arrival.bytes = claim.bytes;
  }
  arrival.header.type = FrameType::kReadResponse;
  bool sending = false;
  send(arrival.header, arrival.bytes, 0, on_response_sent, &arrival, sending);
  arrival.state = sending ? Arrival::State::kResponding : Arrival::State::kLanded;
  if (!sending) arrival.guard.release();
}

void Connection::report(EventSink& sink) {
  while (reported_ < served_ && arrival_at(reported_ + 1).state == Arrival::State::kLanded) {
    if (!report_one(arrival_at(reported_ + 1), sink)) return;
    arrival_at(reported_ + 1) = {};
    ++reported_;
  }
  const Arrival& next = arrival_at(reported_ + 1);
  if (poison_what_ != nullptr) return refuse(poison_code_, poison_what_);
  if (next.state == Arrival::State::kRefused)
    refuse(next.code,
           next.header.type == FrameType::kWrite ? "a write was refused" : "a read was refused");
}

bool Connection::report_one(Arrival& arrival, EventSink& sink) {
  const FrameHeader& header = arrival.header;
  const bool message = header.type == FrameType::kSend;
  const bool immediate = (header.flags & kFlagImmediate) != 0 && header.type == FrameType::kWrite;
  if (!message && !immediate) return true;
  if (!sink.room()) return false;
  Completion event{.event = message ? Event::kMessage : Event::kImmediate,
                   .endpoint = options_.id,
                   .immediate = header.immediate,
                   .length = header.length,
                   .message = {}};
  if (arrival.message != nullptr) {
    event.message = {static_cast<const std::byte*>(arrival.message), header.length};
    queue_.lend(*worker_, std::exchange(arrival.message, nullptr));
  }
  sink.emit(event);
  return true;
}

void Connection::acknowledge_if_due(bool idle) {
  if (!owes_ack() || ack_sending_ || line_failed_) return;
  if (!idle && reported_ - announced_ack_ < kAckFrames && unacked_bytes_ < kAckBytes) return;
  ack_header_ = {};
  ack_header_.type = FrameType::kAck;
  send(ack_header_, {}, 0, on_ack_sent, this, ack_sending_);
}

void Connection::finish_ending(EventSink& sink) {
  if (!drained()) {
    CHECK(queue_.now_ns() < give_up_ns_, "UCX keeps an operation of an endpoint that it closed");
    return;
  }
  const Code reason = status_.code();
  while (sink.room()) {
    if (retired_ == posted_) {
      state_ = State::kEnded;
      sink.emit(
          {.event = Event::kDisconnected, .code = reason, .endpoint = options_.id, .message = {}});
      return;
    }
    complete(post_at(retired_ + 1), oldest_done() ? Code::kOk : reason, sink);
    ++retired_;
  }
}

void Connection::complete(const Post& post, Code code, EventSink& sink) {
  sink.emit({.event = parts::done_event(post.opcode),
             .code = code,
             .endpoint = options_.id,
             .length = code == Code::kOk ? post.local.size() : 0,
             .tag = post.tag,
             .message = {}});
}

}  // namespace penstock::ucx

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "transport/base/check.h"
#include "transport/parts/post.h"
#include "transport/tcp/endpoint.h"
#include "transport/tcp/queue.h"

// The traffic of an endpoint, in the order of a step: send, receive, complete, acknowledge.

namespace penstock::tcp {
namespace {

// What one endpoint may move per poll before the others have their turn: a few hundred
// microseconds.
constexpr std::size_t kReceiveBudget = std::size_t{1} << 20;
constexpr std::size_t kSendBudget = std::size_t{2} << 20;
// An acknowledgement of its own leaves when this much is unacknowledged and nothing else goes out;
// earlier only when the connection falls silent.
constexpr std::uint64_t kAckFrames = 64;
constexpr std::uint64_t kAckBytes = std::uint64_t{1} << 20;

}  // namespace

bool TcpEndpoint::step(EventSink& sink, std::uint64_t pass) {
  if (state_ == State::kRefusing) step_refusal();
  if (state_ == State::kSecuring) secure();
  if (state_ == State::kOpen || state_ == State::kGreeting) {
    if (pass != last_pass_) receiver_.release_messages();
    last_pass_ = pass;
    if (std::exchange(announce_, false)) emit(sink, Event::kConnected);
    received_ = false;
    flush();
    retire(sink);  // before new work: the oldest completions first
    receive(sink);
    retire(sink);
    acknowledge_if_due(!received_);
  }
  if (state_ == State::kEnding) report_end(sink);
  return wants_step();
}

bool TcpEndpoint::settle() {
  if (state_ == State::kOpen || state_ == State::kGreeting) {
    flush();
    acknowledge_if_due(true);
  }
  return wants_step();
}

bool TcpEndpoint::owes_ack() const { return receiver_.applied() != sender_.announced_ack(); }

bool TcpEndpoint::wants_step() const {
  switch (state_) {
    case State::kConnecting:
    case State::kSecuring:
    case State::kWaiting:
    case State::kEnded:
      return false;
    case State::kRefusing:
    case State::kEnding:
      return true;
    case State::kGreeting:
    case State::kOpen:
      break;
  }
  if (readable_ || full_ || announce_ || sender_.oldest_done()) return true;
  return sender_.has_outgoing() ? !blocked_ : owes_ack();
}

void TcpEndpoint::flush() {
  std::size_t budget = kSendBudget;
  while (!blocked_ && budget > 0 && sender_.has_outgoing())
    if (!flush_batch(budget)) break;
  if (fd_.valid()) want_writable(blocked_);
}

bool TcpEndpoint::flush_batch(std::size_t& budget) {
  const std::span<iovec> batch = sender_.batch(receiver_.applied());
  RegionTable::Guard guard;
  if (sender_.batch_key() != 0) {
    guard = regions_.enter(sender_.batch_key());
    if (!guard) {
      response_lost();
      return false;
    }
  }
  const std::size_t offered = sender_.batch_left();
  const ssize_t got = send_batch(batch);
  guard.release();
  if (got < 0) return send_failed(errno);
  const auto sent = static_cast<std::size_t>(got);
  counters_.send_calls.add(1);
  counters_.bytes_sent.add(sent);
  counters_.frames_sent.add(sender_.advance(sent, zerocopy_.calls()));
  if (sender_.announced_ack() == receiver_.applied()) unacked_bytes_ = 0;
  budget -= std::min(budget, sent);
  blocked_ = sent < offered;  // the kernel noted that we wait for room
  if (blocked_) counters_.blocked_sends.add(1);
  return true;
}

ssize_t TcpEndpoint::send_batch(std::span<iovec> batch) {
  if (!kernel_sends()) return tls_->send(batch);
  msghdr message{};
  message.msg_iov = batch.data();
  message.msg_iovlen = batch.size();
  constexpr int kFlags = MSG_NOSIGNAL | MSG_DONTWAIT;
  if (sender_.batch_is_lent() && zerocopy_.wants(sender_.batch_left(), batch.size())) {
    const ssize_t got = ::sendmsg(fd_.get(), &message, kFlags | MSG_ZEROCOPY);
    if (got > 0) {
      zerocopy_.sent();
      counters_.zerocopy_sends.add(1);
    }
    if (got >= 0 || errno != ENOBUFS) return got;
    zerocopy_.stop();  // no more memory may be pinned
  }
  return ::sendmsg(fd_.get(), &message, kFlags);
}

void TcpEndpoint::release_lent() {
  zerocopy_.collect(fd_.get(), counters_);
  sender_.release(zerocopy_.released());
}

// The region of a response went away before all of it was sent. The peer is told unless it stands
// in the middle of the bytes; then all we can do is hang up.
void TcpEndpoint::response_lost() {
  constexpr const char* kWhat = "a region that went away while the peer read it";
  const std::uint64_t sequence = sender_.oldest_response();
  if ((tls_ != nullptr && tls_->committed()) || !sender_.take_back_batch())
    return end(Status(Code::kStale, kWhat));
  refuse({.kind = Arrival::Kind::kRefused,
          .code = Code::kStale,
          .what = kWhat,
          .header = {.sequence = sequence}});
}

bool TcpEndpoint::send_failed(int error) {
  if (error == EINTR) return true;
  blocked_ = true;
  if (error == EAGAIN) {
    counters_.blocked_sends.add(1);
    return false;
  }
  send_error_ = error;
  readable_ = hung_up_ = true;  // the peer may have said why before it went
  return false;
}

void TcpEndpoint::want_writable(bool wanted) {
  if (wanted == epoll_out_ || send_error_ != 0) return;
  queue_.rewatch(fd_.get(), *this, wanted);
  epoll_out_ = wanted;
}

void TcpEndpoint::receive(EventSink& sink) {
  full_ = false;
  std::size_t budget = kReceiveBudget;
  while (state_ == State::kOpen || state_ == State::kGreeting) {
    full_ = !sink.room();
    if (full_) return;
    const Arrival arrival = receiver_.next();
    if (!sender_.acknowledge(receiver_.acked()))
      return refuse({.kind = Arrival::Kind::kGarbage,
                     .code = Code::kProtocol,
                     .what = "an acknowledgement of something never sent"});
    switch (arrival.kind) {
      case Arrival::Kind::kNeedBytes:
        if (!read_some(budget)) return;
        break;
      case Arrival::Kind::kFrame:
        act_on(arrival, sink);
        break;
      case Arrival::Kind::kMessageRoom:
        full_ = true;
        return;
      case Arrival::Kind::kRefused:
      case Arrival::Kind::kGarbage:
        return refuse(arrival);
    }
  }
}

bool TcpEndpoint::read_some(std::size_t& budget) {
  if (!readable_ || budget == 0) return false;
  iovec space[2];
  const int count = receiver_.prepare(space, budget);
  if (count == 0) return true;  // next() says why
  const ssize_t got = tls_ != nullptr ? tls_->receive({space, static_cast<std::size_t>(count)})
                                      : ::readv(fd_.get(), space, count);
  receiver_.commit(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (got <= 0) {
    receive_failed(got == 0 ? 0 : errno);
    return false;
  }
  const auto bytes = static_cast<std::size_t>(got);
  const std::size_t asked = space[0].iov_len + (count > 1 ? space[1].iov_len : 0);
  received_ = true;
  counters_.receive_calls.add(1);
  counters_.bytes_received.add(bytes);
  budget -= std::min(budget, bytes);
  // A short read emptied the socket; what comes later is a new edge of epoll's.
  const bool emptied = tls_ != nullptr ? tls_->drained() : bytes < asked;
  if (emptied && !hung_up_) readable_ = false;
  return true;
}

void TcpEndpoint::receive_failed(int error) {
  if (error == EINTR) return;
  if (error == EAGAIN) {
    readable_ = false;
    if (send_error_ != 0) lost("send", send_error_);
    return;
  }
  if (error == EPROTO && tls_ != nullptr) return end(tls_->error());
  if (error != 0) return lost("receive", error);
  lost(receiver_.inside_frame() ? "the peer closed in the middle of a frame"
                                : "the peer closed the connection",
       0);
}

void TcpEndpoint::act_on(const Arrival& arrival, EventSink& sink) {
  const FrameHeader& header = arrival.header;
  counters_.frames_received.add(1);
  switch (header.type) {
    case FrameType::kHello:
      CHECK(false, "the receiver lets no hello through");
      return;
    case FrameType::kWelcome:
      sender_.set_peer_depth(header.immediate);
      state_ = State::kOpen;
      return emit(sink, Event::kConnected);
    case FrameType::kWrite:
      unacked_bytes_ += header.length;
      if ((header.flags & kFlagImmediate) != 0)
        sink.emit({.event = Event::kImmediate,
                   .endpoint = options_.id,
                   .immediate = header.immediate,
                   .length = header.length,
                   .message = {}});
      return;
    case FrameType::kReadRequest:
      return answer_read(header);
    case FrameType::kReadResponse:
      sender_.read_landed();
      return await_read();
    case FrameType::kSend:
      sink.emit({.event = Event::kMessage,
                 .endpoint = options_.id,
                 .length = header.length,
                 .message = arrival.message});
      return;
    case FrameType::kAck:
      return;
    case FrameType::kError:
      return end(refused_by_peer(static_cast<Code>(header.immediate)));
    case FrameType::kClose:
      return lost("closed by the peer", 0);
  }
}

Status TcpEndpoint::refused_by_peer(Code code) const {
  if (state_ != State::kGreeting || code != Code::kUnauthenticated)
    return Status(code, "refused by the peer");
  return Status(code, "refused by the peer: no endpoint there waits for this token")
      .with_hint(
          "a token serves one connection; accept() comes before connect(); both sides encrypt or "
          "none");
}

void TcpEndpoint::answer_read(const FrameHeader& request) {
  Sender::Response response{.header = {.type = FrameType::kReadResponse,
                                       .length = request.length,
                                       .sequence = request.sequence},
                            .key = request.key,
                            .bytes = {}};
  const RegionTable::Request wanted{.incarnation = request.incarnation,
                                    .key = request.key,
                                    .offset = request.offset,
                                    .length = request.length,
                                    .wanted = Access::kRemoteRead,
                                    .scope = options_.scope};
  Arrival refusal{.kind = Arrival::Kind::kRefused,
                  .code = Code::kOk,
                  .what = "a read was refused",
                  .header = request};
  if (request.length > 0) {
    const RegionTable::Claim claim = regions_.resolve(wanted);
    refusal.code = claim.code;
    response.bytes = claim.bytes;
  }
  if (refusal.code == Code::kOk && !sender_.push_response(response)) {
    refusal.code = Code::kProtocol;
    refusal.what = "more reads than the peer announced";
  }
  if (refusal.code != Code::kOk) refuse(refusal);
}

void TcpEndpoint::await_read() {
  if (const Sender::Post* read = sender_.awaited_read())
    receiver_.expect_read(read->header.sequence, read->local);
}

void TcpEndpoint::retire(EventSink& sink) {
  while (sink.room() && sender_.oldest_done()) {
    complete(*sender_.oldest(), Code::kOk, sink);
    sender_.retire_oldest();
  }
}

void TcpEndpoint::acknowledge_if_due(bool idle) {
  if (state_ != State::kOpen || !owes_ack() || sender_.has_outgoing()) return;
  const std::uint64_t frames = receiver_.applied() - sender_.announced_ack();
  if (!idle && frames < kAckFrames && unacked_bytes_ < kAckBytes) return;
  CHECK(sender_.push_control({.type = FrameType::kAck}));
  counters_.acks_sent.add(1);
  flush();
}

void TcpEndpoint::discard_input() {
  // MSG_TRUNC drops the bytes in the kernel.
  const ssize_t got = ::recv(fd_.get(), nullptr, kReceiveBudget, MSG_TRUNC | MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) end(status_);
}

void TcpEndpoint::report_end(EventSink& sink) {
  const Code reason = status_.code();
  while (sink.room()) {
    const Sender::Post* post = sender_.oldest();
    if (post == nullptr) {
      state_ = State::kEnded;
      sink.emit(
          {.event = Event::kDisconnected, .code = reason, .endpoint = options_.id, .message = {}});
      return;
    }
    complete(*post, sender_.oldest_done() ? Code::kOk : reason, sink);
    sender_.retire_oldest();
  }
}

void TcpEndpoint::complete(const Sender::Post& post, Code code, EventSink& sink) {
  sink.emit({.event = parts::done_event(post.opcode),
             .code = code,
             .endpoint = options_.id,
             .length = code == Code::kOk ? post.local.size() : 0,
             .tag = post.tag,
             .message = {}});
}

void TcpEndpoint::emit(EventSink& sink, Event event) {
  sink.emit({.event = event, .endpoint = options_.id, .message = {}});
}

}  // namespace penstock::tcp

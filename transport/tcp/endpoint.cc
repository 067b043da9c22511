// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/endpoint.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

#include "transport/base/check.h"
#include "transport/parts/post.h"
#include "transport/tcp/listener.h"
#include "transport/tcp/queue.h"

// Its life: connecting, posting, ending. The traffic of a step is endpoint_io.cc.

namespace penstock::tcp {
namespace {

// A refused peer that takes nothing is cut off after this.
constexpr TimeNs kRefuseNs = kSecond;

}  // namespace

TcpEndpoint::TcpEndpoint(TcpQueue& queue, DeviceContext& context, Listener* listener,
                         const EndpointOptions& options)
    : queue_(queue),
      context_(context),
      regions_(context.regions),
      counters_(queue.counters()),
      listener_(listener),
      options_(options),
      serial_(queue.attach(*this, options.deadline_ns)),
      state_(listener == nullptr ? State::kConnecting : State::kWaiting),
      sender_(options.send_depth),
      receiver_(context.regions, options.scope,
                listener == nullptr ? Receiver::Side::kConnector : Receiver::Side::kAcceptor),
      zerocopy_(context.zerocopy) {}

TcpEndpoint::~TcpEndpoint() {
  if (state_ == State::kWaiting) listener_->forget(queue_, serial_);
  drop_lent();
  queue_.detach(*this);
  context_.places.give_back();
}

void TcpEndpoint::start(UniqueFd fd, int error, const std::string& peer) {
  peer_ = peer;
  if (error != 0) return lost("connect", error);
  fd_ = std::move(fd);
  blocked_ = epoll_out_ = true;  // until TCP is up
  if (Status status = queue_.watch(fd_.get(), *this, true); !status.ok()) return end(status);
  FrameHeader hello{.type = FrameType::kHello,
                    .incarnation = regions_.incarnation(),
                    .immediate = options_.send_depth};
  CHECK(sender_.push_control(hello, &options_.token));
}

void TcpEndpoint::finish_connect() {
  int error = 0;
  socklen_t length = sizeof error;
  CHECK(::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0);
  if (error != 0) return lost("connect", error);
  if (context_.tls == nullptr) {
    state_ = State::kGreeting;
    return;
  }
  tls_ = std::make_unique<TlsLink>(*context_.tls, fd_.get(), TlsLink::Side::kConnecting);
  state_ = State::kSecuring;
}

// EPOLLOUT is still asked for, so that each event of the socket brings us here.
void TcpEndpoint::secure() {
  switch (tls_->handshake()) {
    case TlsLink::Progress::kAgain:
      return;
    case TlsLink::Progress::kDone:
      state_ = State::kGreeting;
      readable_ = true;  // it may have read beyond the handshake
      counters_.tls_offloaded.add(tls_->offloaded());
      return;
    case TlsLink::Progress::kStranger:
    case TlsLink::Progress::kFailed:
      return end(tls_->error());
  }
}

void TcpEndpoint::adopt(Adoption adoption) {
  if (state_ != State::kWaiting) return;  // closed meanwhile: the socket closes with `adoption`
  fd_ = std::move(adoption.fd);
  tls_ = std::move(adoption.tls);
  readable_ = tls_ != nullptr;  // it may have read beyond the hello
  if (tls_ != nullptr) counters_.tls_offloaded.add(tls_->offloaded());
  peer_ = socket::peer_name(fd_.get());
  state_ = State::kOpen;
  announce_ = true;
  sender_.set_peer_depth(adoption.peer_depth);
  FrameHeader welcome{.type = FrameType::kWelcome,
                      .incarnation = regions_.incarnation(),
                      .immediate = options_.send_depth};
  CHECK(sender_.push_control(welcome));
  if (Status status = queue_.watch(fd_.get(), *this, false); !status.ok()) return end(status);
  queue_.mark_ready(*this);
}

void TcpEndpoint::on_socket_events(std::uint32_t epoll_events) {
  if (state_ == State::kConnecting && (epoll_events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
    finish_connect();
  if ((epoll_events & EPOLLOUT) != 0) blocked_ = false;
  const bool error = (epoll_events & EPOLLERR) != 0;
  if (error && zerocopy_.calls() > 0) release_lent();
  if ((epoll_events & (EPOLLRDHUP | EPOLLHUP)) != 0) hung_up_ = true;
  if ((epoll_events & EPOLLIN) != 0 || error || hung_up_) readable_ = true;
}

void TcpEndpoint::check_deadline(TimeNs now_ns) {
  if (now_ns < deadline_ns()) return;
  const bool waiting = state_ == State::kWaiting;
  end(Status(Code::kTimeout, waiting ? "accept: no peer named the token before the deadline"
                                     : "connect: no answer before the deadline"));
}

Status TcpEndpoint::status() const {
  if (connected()) return {};
  if (settling()) return Status(Code::kConnectionLost, "not connected yet").with_peer(peer_);
  return status_;
}

Status TcpEndpoint::post(std::span<const WorkRequest> work) {
  if (!connected()) return status();
  if (work.size() > sender_.free())
    return Status(Code::kExhausted, "post: the send queue is full").with_peer(peer_);
  if (Status bad = parts::check(work, ProviderKind::kTcp, kMaxMessageBytes); !bad.ok())
    return std::move(bad).with_peer(peer_);
  for (const WorkRequest& request : work) sender_.push(to_post(request));
  await_read();
  queue_.mark_ready(*this);
  return {};
}

Sender::Post TcpEndpoint::to_post(const WorkRequest& request) const {
  Sender::Post post{.header = {}, .local = {}, .tag = request.tag, .opcode = request.opcode};
  if (request.length > 0)
    post.local = request.local->bytes().subspan(request.local_offset, request.length);
  FrameHeader& header = post.header;
  header.type = request.opcode == Opcode::kWrite  ? FrameType::kWrite
                : request.opcode == Opcode::kRead ? FrameType::kReadRequest
                                                  : FrameType::kSend;
  if (request.has_immediate) {
    header.flags = kFlagImmediate;
    header.immediate = request.immediate;
  }
  if (request.opcode != Opcode::kSend && request.length > 0) {
    header.incarnation = request.remote->incarnation;
    header.key = request.remote->key[key_slot(ProviderKind::kTcp)];
    header.offset = request.remote_offset;
  }
  return post;
}

void TcpEndpoint::close() {
  if (state_ == State::kOpen) {
    sender_.only_last_words();
    if (sender_.push_control({.type = FrameType::kClose})) flush();
  }
  end(Status(Code::kCancelled, "closed by its owner"));
}

void TcpEndpoint::refuse(const Arrival& arrival) {
  const bool named = arrival.kind == Arrival::Kind::kRefused;
  status_ = Status(arrival.code, arrival.what).with_peer(peer_);
  FrameHeader answer{.type = FrameType::kError,
                     .sequence = named ? arrival.header.sequence : 0,
                     .immediate = static_cast<std::uint32_t>(arrival.code)};
  state_ = State::kRefusing;
  refuse_until_ns_ = queue_.now_ns() + kRefuseNs;
  sender_.only_last_words();
  if (!sender_.push_control(answer)) return end(status_);
  step_refusal();
}

void TcpEndpoint::step_refusal() {
  flush();
  const bool said = !sender_.has_outgoing() && !zerocopy_.outstanding();
  if (said || send_error_ != 0 || queue_.now_ns() >= refuse_until_ns_) return end(status_, said);
  discard_input();
}

void TcpEndpoint::lost(const char* what, int error) {
  Status status(Code::kConnectionLost, what);
  if (error != 0) status = std::move(status).with_system(error);
  if (error == ECONNREFUSED)
    status = std::move(status).with_hint("is the peer's device still open at this address?");
  end(std::move(status));
}

void TcpEndpoint::end(Status status, bool linger) {
  if (state_ >= State::kEnding) return;
  if (state_ == State::kWaiting) listener_->forget(queue_, serial_);
  status_ = std::move(status).with_peer(peer_);
  state_ = State::kEnding;
  drop_lent();
  if (linger && fd_.valid()) queue_.linger(std::move(fd_));
  fd_.reset();
  queue_.mark_ready(*this);
}

// The lent bytes go back to their owner. If the kernel still reads some, a reset makes it stop.
void TcpEndpoint::drop_lent() {
  if (fd_.valid() && zerocopy_.outstanding()) {
    const linger reset{.l_onoff = 1, .l_linger = 0};
    CHECK(::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
  }
  sender_.release(zerocopy_.calls());
}

}  // namespace penstock::tcp

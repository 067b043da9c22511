// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/channel.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "transport/control/plain_stream.h"
#include "transport/control/sockets.h"

namespace penstock::control {

std::unique_ptr<Stream> ChannelContext::make_stream(int fd, Side side) const {
  if (tls == nullptr) return std::make_unique<PlainStream>(fd);
  return std::make_unique<TlsStream>(*tls, fd, side, handshake_bytes);
}

void Channel::adopt(UniqueFd fd) {
  fd_ = std::move(fd);
  stream_ = context_.make_stream(fd_.get(), side_);
  state_ = State::kHandshaking;
  update_interest();
}

Io Channel::connect(std::vector<SocketAddress> candidates) {
  candidates_ = std::move(candidates);
  std::reverse(candidates_.begin(), candidates_.end());
  return connect_next(EADDRNOTAVAIL);
}

Io Channel::connect_next(int last_error) {
  while (!candidates_.empty()) {
    const SocketAddress candidate = candidates_.back();
    candidates_.pop_back();
    disconnect();
    fd_ = start_connect(candidate, context_.user_timeout_ns);
    if (fd_.valid()) {
      update_interest();
      return Io::kBlocked;
    }
    last_error = errno;
  }
  Status why = Status(Code::kConnectionLost, fmt::format("connect to {}", peer_));
  if (last_error == ECONNREFUSED) why = std::move(why).with_hint("is the process there running?");
  return lost(std::move(why).with_system(last_error));
}

Io Channel::establish(bool writable) {
  if (state_ == State::kConnecting) {
    if (!writable) return Io::kBlocked;
    if (const int error = connect_result(fd_.get()); error != 0) return connect_next(error);
    stream_ = context_.make_stream(fd_.get(), side_);
    state_ = State::kHandshaking;
  }
  const Io io = stream_->handshake();
  if (io == Io::kLost) return lost(in_connect(stream_->error()));
  if (io == Io::kOk) state_ = State::kOpen;
  update_interest();
  return io;
}

Io Channel::flush() {
  while (!queue.empty()) {
    std::size_t moved = 0;
    const Io io = stream_->write(queue.front(), moved);
    if (io == Io::kLost) return lost(stream_->error());
    if (io == Io::kBlocked) return io;
    queue.pop(moved);
  }
  return Io::kOk;
}

Io Channel::read(std::span<std::byte> to, std::size_t& moved) {
  const Io io = stream_->read(to, moved);
  if (io != Io::kLost) return io;
  if (parser.at_boundary()) return lost(stream_->error());
  return lost(Status(stream_->error().code(),
                     fmt::format("{} in the middle of a frame", stream_->error().what()))
                  .with_system(stream_->error().system_error()));
}

void Channel::start_draining() {
  stream_->finish();
  (void)::shutdown(fd_.get(), SHUT_WR);
  state_ = State::kDraining;
  update_interest();
}

bool Channel::drain() { return discard_input(fd_.get()); }

std::uint32_t Channel::wanted_events() const {
  switch (state_) {
    case State::kConnecting:
      return EPOLLOUT;
    case State::kHandshaking:
      return stream_->wants_write() ? EPOLLIN | EPOLLOUT : EPOLLIN;
    case State::kOpen: {
      const bool writes = !queue.empty() || stream_->wants_write();
      // While closing, nothing is read until all is written.
      return (closing ? 0U : EPOLLIN) | (writes ? EPOLLOUT : 0U);
    }
    case State::kDraining:
      return EPOLLIN;
  }
  return 0;
}

void Channel::update_interest() {
  if (!fd_.valid()) return;
  const std::uint32_t wanted = wanted_events();
  if (registered_ && wanted == registered_events_) return;
  const int operation = registered_ ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  const Status watched = watch(context_.epoll, operation, fd_.get(), wanted, serial_);
  CHECK(watched.ok(), "{}", watched.to_string());
  registered_ = true;
  registered_events_ = wanted;
}

void Channel::disconnect() {
  // Explicitly, because a forked child that inherited the socket keeps it in epoll.
  if (registered_) (void)::epoll_ctl(context_.epoll, EPOLL_CTL_DEL, fd_.get(), nullptr);
  registered_ = false;
  stream_.reset();
  fd_.reset();
}

Io Channel::lost(Status why) {
  error_ = std::move(why);
  return Io::kLost;
}

// The same error, saying what was tried where this side chose the peer.
Status Channel::in_connect(const Status& why) const {
  if (side_ == Side::kAccepting) return why;
  return Status(why.code(), fmt::format("connect to {}: {}", peer_, why.what()))
      .with_system(why.system_error())
      .with_hint(why.hint());
}

}  // namespace penstock::control

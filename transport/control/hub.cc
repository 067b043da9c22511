// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/hub.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace penstock::control {
namespace {

constexpr int kEventsPerPoll = 64;
// Read from one channel in one poll(), so that a busy one does not starve the others.
constexpr std::size_t kReadBudgetBytes = std::size_t{1} << 20;

}  // namespace

std::size_t TlsHub::poll(ControlHandler& handler) {
  CHECK(!polling_, "poll() from inside a handler");
  polling_ = true;
  events_ = 0;
  dropped_.clear();
  serve_ready(handler);
  serve_sockets(handler);
  expire(handler);
  flush_dirty();
  dropped_.clear();
  polling_ = false;
  return events_;
}

void TlsHub::serve_ready(ControlHandler& handler) {
  if (!woken_) return;
  eventfd_t ignored = 0;
  (void)::eventfd_read(wake_.get(), &ignored);
  woken_ = false;
  std::swap(ready_, serving_);
  for (const std::uint64_t serial : serving_) {
    const auto found = connections_.find(serial);
    if (found == connections_.end()) continue;
    found->second->scheduled = false;
    serve(*found->second, 0, handler);
  }
  serving_.clear();
}

void TlsHub::serve_sockets(ControlHandler& handler) {
  std::array<epoll_event, kEventsPerPoll> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerPoll, 0);
  CHECK(count >= 0 || errno == EINTR, "epoll_wait: errno {}", errno);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.u64 == kWakeSerial) continue;  // for the next poll()
    if (event.data.u64 <= listeners_.size()) {
      accept_waiting(listeners_[event.data.u64 - 1].get());
      continue;
    }
    const auto found = connections_.find(event.data.u64);
    if (found != connections_.end()) serve(*found->second, event.events, handler);
  }
}

void TlsHub::expire(ControlHandler& handler) {
  if (deadlines_.empty() && listeners_resume_ns_ == kNever) return;
  const TimeNs now_ns = clock_.now_ns();
  if (now_ns >= listeners_resume_ns_) resume_listeners();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
    Channel& channel = *connections_.at(deadlines_.begin()->second);
    const bool answered = channel.state() == Channel::State::kHandshaking;
    if (channel.side() == Side::kAccepting)
      fail(channel, {Code::kTimeout, "it did not authenticate in time"}, handler);
    else
      fail(channel,
           Status(Code::kTimeout, fmt::format("connect to {}{}", channel.peer(),
                                              answered ? ": no answer to the handshake" : ""))
               .with_system(ETIMEDOUT),
           handler);
  }
}

void TlsHub::flush_dirty() {
  for (Channel* channel : dirty_) {
    channel->dirty = false;
    if (!channel->gone) flush(*channel);
  }
  dirty_.clear();
}

void TlsHub::serve(Channel& channel, std::uint32_t events, ControlHandler& handler) {
  switch (channel.state()) {
    case Channel::State::kConnecting:
    case Channel::State::kHandshaking:
      if (!channel.broken.ok()) return fail(channel, channel.broken, handler);
      return establish(channel, (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0, handler);
    case Channel::State::kOpen:
      if (channel.closing || (events & EPOLLOUT) != 0) flush(channel);
      if (!channel.gone && !channel.closing) receive(channel, handler);
      return;
    case Channel::State::kDraining:
      if (!channel.drain()) drop(channel);
      return;
  }
}

void TlsHub::establish(Channel& channel, bool writable, ControlHandler& handler) {
  switch (channel.establish(writable)) {
    case Io::kBlocked:
      return;
    case Io::kLost:
      return fail(channel, channel.error(), handler);
    case Io::kOk:
      break;
  }
  if (!channel.closing) announce(channel, handler);
  if (!channel.gone) flush(channel);
  // Frames may have come with the last bytes of the handshake, which epoll does not see.
  if (!channel.gone && !channel.closing) receive(channel, handler);
}

void TlsHub::announce(Channel& channel, ControlHandler& handler) {
  set_deadline(channel, kNever);
  ++events_;
  if (channel.side() == Side::kConnecting) return handler.on_connected(channel.id);
  unauthenticated_.erase(channel.serial());
  give_id(channel);
  handler.on_accepted(channel.id, channel.peer());
}

void TlsHub::receive(Channel& channel, ControlHandler& handler) {
  std::size_t budget = kReadBudgetBytes;
  while (budget > 0) {
    std::size_t moved = 0;
    const Io io = channel.read(buffer_, moved);
    // Once send() has reported a reset, recv() shows it as an ordinary end.
    const bool reset = channel.broken.system_error() == ECONNRESET;
    if (io == Io::kLost) return fail(channel, reset ? channel.broken : channel.error(), handler);
    if (io == Io::kBlocked && !channel.broken.ok()) return fail(channel, channel.broken, handler);
    if (io == Io::kBlocked) return channel.update_interest();
    if (!deliver(channel, std::span(buffer_).first(moved), handler)) return;
    budget -= std::min(budget, moved);
  }
  schedule(channel);
}

// False when the channel is closed or closing: the rest is not for anyone.
bool TlsHub::deliver(Channel& channel, std::span<const std::byte> input, ControlHandler& handler) {
  std::span<const std::byte> frame;
  while (true) {
    auto whole = channel.parser.next(input, frame);
    if (!whole.ok()) {
      fail(channel, whole.status(), handler);
      return false;
    }
    if (!*whole) return true;
    ++events_;
    handler.on_frame(channel.id, frame);
    if (channel.gone || channel.closing) return false;
  }
}

void TlsHub::flush(Channel& channel) {
  if (channel.state() != Channel::State::kOpen || !channel.broken.ok()) return;
  const Io io = channel.flush();
  if (io == Io::kLost) {
    if (channel.closing) return drop(channel);
    channel.broken = channel.error();
    return schedule(channel);  // what the peer said before comes first
  }
  if (io == Io::kOk && channel.closing) return channel.start_draining();
  channel.update_interest();
}

void TlsHub::fail(Channel& channel, Status why, ControlHandler& handler) {
  if (channel.id == 0) return refuse(channel, why);
  const ChannelId id = channel.id;
  const bool reported = !channel.closing;
  drop(channel);
  if (!reported) return;
  ++events_;
  handler.on_closed(id, std::move(why).with_peer(channel.peer()));
}

}  // namespace penstock::control

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>

#include "transport/control/hub.h"
#include "transport/control/sockets.h"

namespace penstock::control {
namespace {

constexpr int kAcceptsPerEvent = 64;                     // then the good peers have their turn
constexpr TimeNs kFlushNs = kSecond;                     // ControlHub::close
constexpr TimeNs kListenerPauseNs = 100 * kMillisecond;  // when descriptors or memory ran out
constexpr std::size_t kReadBytes = std::size_t{64} << 10;

Status gone(ChannelId id) { return {Code::kNotFound, fmt::format("channel {} is closed", id)}; }

}  // namespace

TlsHub::TlsHub(ChannelContext context, HubLimits limits, UniqueFd epoll, UniqueFd wake,
               const Clock& clock)
    : context_(std::move(context)),
      limits_(limits),
      clock_(clock),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      next_serial_(kFirstSerial),
      buffer_(kReadBytes) {}

TlsHub::~TlsHub() {
  CHECK(!polling_, "a hub destroyed from inside its handler");
  for (const auto& [serial, channel] : connections_) {
    if (channel->state() != Channel::State::kOpen || !channel->broken.ok()) continue;
    if (channel->flush() != Io::kLost) channel->start_draining();
    // Closing a socket with unread bytes would reset the connection and lose what was just sent.
    (void)channel->drain();
  }
}

Result<std::string> TlsHub::listen(const std::string& address) {
  CHECK(listeners_.size() + 1 < kFirstSerial, "too many listeners");
  PENSTOCK_ASSIGN_OR_RETURN(UniqueFd fd, open_listener(address));
  PENSTOCK_RETURN_IF_ERROR(
      watch(epoll_.get(), EPOLL_CTL_ADD, fd.get(), EPOLLIN, listeners_.size() + 1));
  const std::string reachable = reachable_text(local_address(fd.get()));
  listeners_.push_back(std::move(fd));
  return reachable;
}

Result<ChannelId> TlsHub::connect(const std::string& address, TimeNs deadline_ns) {
  PENSTOCK_ASSIGN_OR_RETURN(auto candidates, resolve(address));
  Channel& channel = add(Side::kConnecting, address);
  give_id(channel);
  set_deadline(channel, deadline_ns);
  if (channel.connect(std::move(candidates)) == Io::kLost) {
    channel.broken = channel.error();
    schedule(channel);
  }
  return channel.id;
}

Status TlsHub::send(ChannelId id, std::span<const std::byte> frame) {
  if (frame.size() > kMaxControlFrameBytes)
    return {Code::kInvalidArgument, fmt::format("a control frame of {} bytes, more than {}",
                                                frame.size(), kMaxControlFrameBytes)};
  Channel* channel = find(id);
  if (channel == nullptr || channel->closing || !channel->broken.ok()) return gone(id);
  if (channel->queue.bytes() + kFrameHeaderBytes + frame.size() > kMaxControlQueueBytes)
    return Status(Code::kExhausted, fmt::format("{} bytes wait for a peer that does not read",
                                                channel->queue.bytes()))
        .with_peer(channel->peer());
  const bool idle = channel->queue.empty();
  channel->queue.push(frame);
  if (channel->state() != Channel::State::kOpen || !idle) return {};
  // Inside poll(), what the handler sends is gathered and leaves at the end.
  if (!polling_) {
    flush(*channel);
  } else if (!channel->dirty) {
    channel->dirty = true;
    dirty_.push_back(channel);
  }
  return {};
}

void TlsHub::close(ChannelId id) {
  Channel* channel = find(id);
  if (channel == nullptr || channel->closing) return;
  const bool open = channel->state() == Channel::State::kOpen;
  if (!channel->broken.ok() || (!open && channel->queue.empty())) return drop(*channel);
  channel->closing = true;
  set_deadline(*channel, std::min(channel->deadline_ns, clock_.now_ns() + kFlushNs));
  if (open) flush(*channel);
}

TimeNs TlsHub::next_deadline_ns() const {
  const TimeNs first = deadlines_.empty() ? kNever : deadlines_.begin()->first;
  return std::min(first, listeners_resume_ns_);
}

void TlsHub::accept_waiting(int listener) {
  for (int accepted = 0; accepted < kAcceptsPerEvent; ++accepted) {
    UniqueFd fd = accept_connection(listener, context_.user_timeout_ns);
    if (!fd.valid()) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
        pause_listeners();
      if (errno == ECONNABORTED || errno == EINTR) continue;
      return;
    }
    if (unauthenticated_.size() >= limits_.max_unauthenticated)
      refuse(*connections_.at(*unauthenticated_.begin()),
             {Code::kExhausted, "too many connections that have not authenticated"});
    Channel& channel = add(Side::kAccepting, to_text(remote_address(fd.get())));
    unauthenticated_.insert(channel.serial());
    set_deadline(channel, clock_.now_ns() + limits_.handshake_ns);
    channel.adopt(std::move(fd));
  }
}

// A listener with a connection that cannot be accepted would keep epoll awake.
void TlsHub::pause_listeners() {
  refusals_.add(clock_.now_ns(), "anyone", Status::system("accept a control connection", errno));
  listeners_resume_ns_ = clock_.now_ns() + kListenerPauseNs;
  for (std::size_t i = 0; i < listeners_.size(); ++i)
    (void)watch(epoll_.get(), EPOLL_CTL_MOD, listeners_[i].get(), 0, i + 1);
}

void TlsHub::resume_listeners() {
  listeners_resume_ns_ = kNever;
  for (std::size_t i = 0; i < listeners_.size(); ++i)
    (void)watch(epoll_.get(), EPOLL_CTL_MOD, listeners_[i].get(), EPOLLIN, i + 1);
}

Channel& TlsHub::add(Side side, std::string peer) {
  const std::uint64_t serial = next_serial_++;
  auto channel = std::make_unique<Channel>(context_, serial, side, std::move(peer));
  return *connections_.emplace(serial, std::move(channel)).first->second;
}

void TlsHub::refuse(Channel& channel, const Status& why) {
  refusals_.add(clock_.now_ns(), channel.peer(), why);
  // Closing a socket with unread bytes would reset the connection and lose the alert.
  (void)channel.drain();
  drop(channel);
}

void TlsHub::drop(Channel& channel) {
  set_deadline(channel, kNever);
  unauthenticated_.erase(channel.serial());
  by_id_.erase(channel.id);
  channel.gone = true;
  channel.disconnect();
  auto node = connections_.extract(channel.serial());
  dropped_.push_back(std::move(node.mapped()));
}

Channel* TlsHub::find(ChannelId id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

void TlsHub::give_id(Channel& channel) {
  CHECK(next_id_ != 0, "4 billion control channels in one process");
  channel.id = next_id_++;
  by_id_.emplace(channel.id, &channel);
}

void TlsHub::set_deadline(Channel& channel, TimeNs deadline_ns) {
  if (channel.deadline_ns != kNever) deadlines_.erase({channel.deadline_ns, channel.serial()});
  channel.deadline_ns = deadline_ns;
  if (deadline_ns != kNever) deadlines_.emplace(deadline_ns, channel.serial());
}

void TlsHub::schedule(Channel& channel) {
  if (channel.scheduled) return;
  channel.scheduled = true;
  ready_.push_back(channel.serial());
  if (woken_) return;
  woken_ = true;
  CHECK(::eventfd_write(wake_.get(), 1) == 0, "eventfd_write: errno {}", errno);
}

}  // namespace penstock::control

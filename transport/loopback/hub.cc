// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/hub.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <vector>

namespace penstock::loopback {

LoopbackHub::LoopbackHub(ControlExchange& exchange, const Clock& clock, UniqueFd event)
    : exchange_(exchange),
      clock_(clock),
      event_(std::move(event)),
      name_(exchange.add_hub(*this)) {}

LoopbackHub::~LoopbackHub() {
  for (const auto& [id, channel] : channels_) exchange_.close(channel.end);
  exchange_.remove_hub(*this);
}

Result<std::string> LoopbackHub::listen(const std::string& address) {
  return exchange_.listen(*this, address);
}

Result<ChannelId> LoopbackHub::connect(const std::string& address, TimeNs deadline_ns) {
  return add({exchange_.open(*this, address), true, deadline_ns});
}

Status LoopbackHub::send(ChannelId channel, std::span<const std::byte> frame) {
  if (frame.size() > kMaxControlFrameBytes)
    return {Code::kInvalidArgument, fmt::format("sending a control frame of {} bytes; the "
                                                "largest is {}",
                                                frame.size(), kMaxControlFrameBytes)};
  const auto found = channels_.find(channel);
  if (found == channels_.end())
    return {Code::kNotFound, fmt::format("sending on control channel {}", channel)};
  return exchange_.send(found->second.end, frame);
}

void LoopbackHub::close(ChannelId channel) { forget(channel); }

std::size_t LoopbackHub::poll(ControlHandler& handler) {
  if (eventfd_t count = 0; event_.valid()) (void)eventfd_read(event_.get(), &count);
  std::size_t delivered = 0;
  for (const Notice& notice : exchange_.take(*this)) delivered += dispatch(notice, handler);
  return delivered + expire(handler);
}

TimeNs LoopbackHub::next_deadline_ns() const {
  TimeNs next = kNever;
  for (const auto& [id, channel] : channels_) {
    if (channel.connecting) next = std::min(next, channel.deadline_ns);
  }
  return next;
}

void LoopbackHub::ring_bell() {
  if (event_.valid()) CHECK(eventfd_write(event_.get(), 1) == 0, "waking a hub's owner");
}

ChannelId LoopbackHub::add(const Channel& channel) {
  const ChannelId id = ++channels_made_;
  channels_.emplace(id, channel);
  by_end_.emplace(channel.end, id);
  return id;
}

void LoopbackHub::forget(ChannelId channel) {
  const auto found = channels_.find(channel);
  if (found == channels_.end()) return;
  exchange_.close(found->second.end);
  by_end_.erase(found->second.end);
  channels_.erase(found);
}

// False when the owner has closed the channel meanwhile.
bool LoopbackHub::dispatch(const Notice& notice, ControlHandler& handler) {
  if (notice.kind == Notice::Kind::kKnock) {
    const ChannelId id = add({notice.end});
    exchange_.accept(notice.end);
    handler.on_accepted(id, notice.address);
    return true;
  }
  const auto known = by_end_.find(notice.end);
  if (known == by_end_.end()) return false;
  const ChannelId id = known->second;
  switch (notice.kind) {
    case Notice::Kind::kAccepted:
      channels_.at(id).connecting = false;
      handler.on_connected(id);
      break;
    case Notice::Kind::kFrame:
      handler.on_frame(id, notice.frame);
      break;
    default:
      forget(id);
      handler.on_closed(id, notice.reason);
  }
  return true;
}

std::size_t LoopbackHub::expire(ControlHandler& handler) {
  std::vector<ChannelId> late;
  for (const auto& [id, channel] : channels_) {
    if (channel.connecting && channel.deadline_ns <= clock_.now_ns()) late.push_back(id);
  }
  for (const ChannelId id : late) {
    if (!channels_.contains(id)) continue;  // closed by the handler a moment ago
    forget(id);
    handler.on_closed(id, Status(Code::kTimeout, "the peer did not accept by the deadline"));
  }
  return late.size();
}

}  // namespace penstock::loopback

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/links.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/protocol/limits.h"

namespace penstock {

Result<ChannelId> Links::connect(const std::string& address, TimeNs deadline_ns) {
  PENSTOCK_ASSIGN_OR_RETURN(const ChannelId link, hub_.connect(address, deadline_ns));
  links_[link].peer = address;
  return link;
}

void Links::send_frame(ChannelId id, const std::vector<std::byte>& frame) {
  const auto link = links_.find(id);
  if (link == links_.end()) return;
  if (Status sent = hub_.send(id, frame); !sent.ok()) {
    link->second.broken = std::move(sent);
    next_check_ns_ = 0;
    return;
  }
  link->second.sent_ns = clock_.now_ns();
}

void Links::close(ChannelId link) {
  if (links_.erase(link) > 0) hub_.close(link);
}

void Links::refuse(ChannelId link, const Status& why) {
  wire::RefusedT refused;
  refused.error = to_wire(why);
  send(link, std::move(refused));
  close(link);
}

std::size_t Links::run_once() {
  const std::size_t events = hub_.poll(*this);  // before looking for silence
  return events + (clock_.now_ns() >= next_check_ns_ ? keep_alive() : 0);
}

TimeNs Links::next_deadline_ns() const {
  return std::min(hub_.next_deadline_ns(), links_.empty() ? kNever : next_check_ns_);
}

std::size_t Links::keep_alive() {
  const TimeNs now_ns = clock_.now_ns();
  const TimeNs interval_ns = heartbeat_interval_ns(detect_ns_);
  next_check_ns_ = now_ns + interval_ns / 2;
  std::vector<std::pair<ChannelId, Status>> dead;
  for (auto& [id, link] : links_) {
    if (!link.broken.ok()) {
      dead.emplace_back(id, link.broken);
    } else if (link.up && now_ns - link.heard_ns > detect_ns_) {
      dead.emplace_back(id, Status(Code::kPeerLost, fmt::format("no sign of life for {} ms",
                                                                detect_ns_ / kMillisecond))
                                .with_peer(link.peer));
    } else if (link.up && now_ns - link.sent_ns >= interval_ns) {
      send(id, wire::HeartbeatT{});
    }
  }
  for (const auto& [id, reason] : dead) take_down(id, reason);
  return dead.size();
}

void Links::take_down(ChannelId id, const Status& reason) {
  if (links_.erase(id) == 0) return;
  hub_.close(id);
  handler_.on_link_down(id, reason);
}

void Links::on_accepted(ChannelId channel, const std::string& peer_address) {
  const TimeNs now_ns = clock_.now_ns();
  links_[channel] = {peer_address, true, now_ns, now_ns, {}};
}

void Links::on_connected(ChannelId channel) {
  const auto link = links_.find(channel);
  if (link == links_.end()) return;
  link->second.up = true;
  link->second.heard_ns = link->second.sent_ns = clock_.now_ns();
  handler_.on_link_up(channel);
}

void Links::on_frame(ChannelId channel, std::span<const std::byte> frame) {
  const auto link = links_.find(channel);
  if (link == links_.end()) return;
  link->second.heard_ns = clock_.now_ns();
  Result<wire::MessageT> message = decode(frame);
  if (!message.ok()) return take_down(channel, message.status());
  if (message->body.type == wire::Body::Heartbeat) return;
  handler_.on_message(channel, *message);
}

void Links::on_closed(ChannelId channel, const Status& reason) {
  if (links_.erase(channel) > 0) handler_.on_link_down(channel, reason);
}

}  // namespace penstock

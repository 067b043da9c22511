// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/control_exchange.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/loopback/hub.h"

namespace penstock::loopback {
namespace {

Notice lost(LinkEnd end) {
  return {Notice::Kind::kClosed,
          end,
          {},
          {},
          Status(Code::kConnectionLost, "the control connection was lost")};
}

}  // namespace

ControlExchange::ControlExchange(Timeline* timeline)
    : timeline_(timeline), handle_(timeline == nullptr ? 0 : timeline->add(*this)) {}

ControlExchange::~ControlExchange() {
  if (timeline_ != nullptr) timeline_->remove(handle_);
  MutexLock lock(mutex_);
  CHECK(hubs_.empty(), "the fabric is destroyed before {} of its hubs", hubs_.size());
}

std::string ControlExchange::add_hub(LoopbackHub& hub) {
  MutexLock lock(mutex_);
  hubs_.push_back(
      std::make_unique<Hub>(Hub{&hub, fmt::format("loopback-hub:{}", ++hubs_made_), {}}));
  return hubs_.back()->name;
}

void ControlExchange::remove_hub(LoopbackHub& hub) {
  MutexLock lock(mutex_);
  std::erase_if(listeners_, [&](const auto& listener) { return listener.second == &hub; });
  for (auto& [serial, link] : links_) {
    for (std::uint64_t i = 0; i < 2; ++i) {
      if (link.sides[i].hub != &hub) continue;
      shut(serial << 1 | i);  // a knock that was never taken
      link.sides[i].hub = nullptr;
    }
  }
  dead_.erase(&hub);
  std::erase_if(links_, [](const auto& link) {
    return !link.second.sides[0].open && !link.second.sides[1].open;
  });
  std::erase_if(hubs_, [&](const auto& known) { return known->hub == &hub; });
}

Result<std::string> ControlExchange::listen(LoopbackHub& hub, const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos)
    return Status(Code::kInvalidArgument, fmt::format("listening on \"{}\"", address))
        .with_hint("an address is host:port");
  MutexLock lock(mutex_);
  std::string mine = address;
  if (address.substr(colon) == ":0")
    mine = fmt::format("{}:{}", address.substr(0, colon), ++ports_given_);
  if (!listeners_.try_emplace(mine, &hub).second)
    return Status(Code::kAlreadyExists, fmt::format("listening on {}, which is taken", mine));
  silent_.erase(mine);
  return mine;
}

LinkEnd ControlExchange::open(LoopbackHub& hub, const std::string& address) {
  MutexLock lock(mutex_);
  const std::uint64_t serial = ++links_made_;
  const LinkEnd mine = serial << 1;
  Link& link = links_[serial];
  link.sides[0].hub = &hub;
  link.sides[0].open = true;
  if (silent_.contains(address) || dead_.contains(&hub)) return mine;  // no answer will come
  const auto listener = listeners_.find(address);
  if (listener == listeners_.end()) {
    carry({Notice::Kind::kClosed,
           mine,
           {},
           {},
           Status(Code::kConnectionLost, fmt::format("nobody listens on {}", address))});
    return mine;
  }
  link.sides[1].hub = listener->second;
  link.sides[1].open = true;
  carry({Notice::Kind::kKnock, mine | 1, {}, entry(hub).name, {}});
  return mine;
}

void ControlExchange::accept(LinkEnd end) {
  MutexLock lock(mutex_);
  if (side(end ^ 1).open) carry({Notice::Kind::kAccepted, end ^ 1, {}, {}, {}});
}

Status ControlExchange::send(LinkEnd end, std::span<const std::byte> frame) {
  MutexLock lock(mutex_);
  Side& theirs = side(end ^ 1);
  if (!theirs.open) return {};  // it left; our own notice of that is on its way
  if (theirs.queued_bytes + frame.size() > kMaxControlQueueBytes)
    return {Code::kExhausted, "queueing a control frame for a peer that does not read"};
  theirs.queued_bytes += frame.size();
  carry({Notice::Kind::kFrame, end ^ 1, {frame.begin(), frame.end()}, {}, {}});
  return {};
}

void ControlExchange::close(LinkEnd end) {
  MutexLock lock(mutex_);
  shut(end);
  if (!side(end ^ 1).open) links_.erase(end >> 1);
}

std::vector<Notice> ControlExchange::take(LoopbackHub& hub) {
  MutexLock lock(mutex_);
  std::vector<Notice> taken;
  taken.swap(entry(hub).inbox);
  for (const Notice& notice : taken) {
    const auto link = links_.find(notice.end >> 1);
    if (link != links_.end())
      link->second.sides[notice.end & 1].queued_bytes -= notice.frame.size();
  }
  return taken;
}

void ControlExchange::cut(const LoopbackHub& a, const LoopbackHub& b) {
  MutexLock lock(mutex_);
  for (auto& [serial, link] : links_) {
    const LoopbackHub* from = link.sides[0].hub;
    const LoopbackHub* to = link.sides[1].hub;
    if (link.severed || !((from == &a && to == &b) || (from == &b && to == &a))) continue;
    sever(link);
    for (std::uint64_t i = 0; i < 2; ++i) {
      if (link.sides[i].open) carry(lost(serial << 1 | i));
    }
    link.severed = true;
  }
}

void ControlExchange::kill(const LoopbackHub& hub, bool silent) {
  MutexLock lock(mutex_);
  dead_.insert(&hub);
  for (auto listener = listeners_.begin(); listener != listeners_.end();) {
    const bool its = listener->second == &hub;
    if (its && silent) silent_.insert(listener->first);
    listener = its ? listeners_.erase(listener) : std::next(listener);
  }
  for (auto& [serial, link] : links_) {
    for (std::uint64_t i = 0; i < 2; ++i) {
      if (link.sides[i].hub != &hub || link.severed) continue;
      sever(link);
      if (!silent && link.sides[1 - i].open) carry(lost(serial << 1 | (1 - i)));
      link.severed = true;
    }
  }
}

// Of what is under way only a beginning arrives.
void ControlExchange::sever(Link& link) {
  if (timeline_ == nullptr) return;
  for (Side& side : link.sides)
    side.under_way.resize(timeline_->draw_below(side.under_way.size() + 1));
}

void ControlExchange::shut(LinkEnd end) {
  if (!side(end).open) return;
  side(end).open = false;
  if (side(end ^ 1).open)
    carry({Notice::Kind::kClosed,
           end ^ 1,
           {},
           {},
           Status(Code::kConnectionLost, "the peer closed the control connection")});
}

void ControlExchange::carry(Notice notice) {
  Link& link = links_.at(notice.end >> 1);
  Side& theirs = link.sides[notice.end & 1];
  if (link.severed || theirs.hub == nullptr) return;
  if (timeline_ == nullptr) {
    hand_over(*theirs.hub, std::move(notice));
    return;
  }
  theirs.last_due_ns =
      std::max(theirs.last_due_ns, timeline_->now_ns() + timeline_->draw_control_delay());
  timeline_->schedule(theirs.last_due_ns, handle_, notice.end);
  theirs.under_way.push_back({theirs.last_due_ns, std::move(notice)});
}

void ControlExchange::on_due(std::uint64_t end) {
  MutexLock lock(mutex_);
  const auto link = links_.find(end >> 1);
  if (link == links_.end()) return;
  Side& theirs = link->second.sides[end & 1];
  while (!theirs.under_way.empty() && theirs.under_way.front().due_ns <= timeline_->now_ns()) {
    if (theirs.hub != nullptr) hand_over(*theirs.hub, std::move(theirs.under_way.front().notice));
    theirs.under_way.pop_front();
  }
}

void ControlExchange::hand_over(LoopbackHub& hub, Notice notice) {
  if (dead_.contains(&hub)) return;
  std::vector<Notice>& inbox = entry(hub).inbox;
  inbox.push_back(std::move(notice));
  if (inbox.size() == 1) hub.ring_bell();
}

ControlExchange::Hub& ControlExchange::entry(const LoopbackHub& hub) {
  const auto known =
      std::find_if(hubs_.begin(), hubs_.end(), [&](const auto& each) { return each->hub == &hub; });
  CHECK(known != hubs_.end());
  return **known;
}

}  // namespace penstock::loopback

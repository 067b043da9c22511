// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/resender.h"

#include <algorithm>

#include "transport/base/random.h"

namespace penstock::pslite {

Resender::Resender(const Clock& clock, ResendOptions options)
    : clock_(clock),
      options_(options),
      random_(static_cast<std::minstd_rand::result_type>(random_u64())) {}

// Gives the copy that is sent an owner of its own, to see when the engine lets go of it.
void Resender::track(Message& message, std::weak_ptr<const void>& under_way) {
  if (message.parts.empty()) return;
  const auto token = std::make_shared<char>();
  under_way = token;
  using Both = std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>;
  for (MessagePart& part : message.parts)
    part.owner = std::make_shared<Both>(token, std::move(part.owner));
}

void Resender::number(Message& message) {
  if (!options_.resend || message.envelope.kind >= Kind::kAck) return;
  const std::lock_guard lock(mutex_);
  Peer& peer = peers_[message.peer];
  message.envelope.sequence = peer.next++;
  message.envelope.ack = peer.expected - 1;
  const TimeNs pause_ns = std::min(kFirstPauseNs, options_.timeout_ns);
  peer.sent.push_back({message, {}, clock_.now_ns() + pause_ns, pause_ns});
  track(message, peer.sent.back().under_way);
}

// A copy: the answer may come, and the caller's memory go, while this one is under way.
Message Resender::again(Sent& sent) {
  sent.pause_ns = std::min(2 * sent.pause_ns, options_.timeout_ns);
  sent.again_ns = clock_.now_ns() + sent.pause_ns;
  Message message = sent.message;
  message.envelope.ack = peers_[message.peer].expected - 1;
  for (MessagePart& part : message.parts)
    part = own({reinterpret_cast<const char*>(part.bytes.data()), part.bytes.size()});
  track(message, sent.under_way);
  return message;
}

bool Resender::unlucky() {
  if (options_.drop_percent == 0) return false;
  const int roll = std::uniform_int_distribution<int>(0, 99)(random_);
  dropped_ += roll < options_.drop_percent;
  return roll < options_.drop_percent;
}

Resender::Arrival Resender::arrived(Message&& message) {
  Arrival arrival;
  const std::lock_guard lock(mutex_);
  const Envelope envelope = message.envelope;
  const bool ack = envelope.kind == Kind::kAck;
  if (envelope.sequence == 0 && !ack) {
    arrival.deliver.push_back(std::move(message));
    return arrival;
  }
  if (unlucky()) return arrival;
  const int id = message.peer;
  Peer& peer = peers_[id];
  while (!peer.sent.empty() && peer.sent.front().message.envelope.sequence <= envelope.ack)
    peer.sent.pop_front();
  if (ack) {
    if ((envelope.flags & kGap) != 0 && !peer.sent.empty() && peer.sent.front().under_way.expired())
      arrival.send.push_back(again(peer.sent.front()));
    return arrival;
  }
  if (envelope.sequence >= peer.expected)
    peer.held.try_emplace(envelope.sequence, std::move(message));
  while (!peer.held.empty() && peer.held.begin()->first == peer.expected) {
    arrival.deliver.push_back(std::move(peer.held.begin()->second));
    peer.held.erase(peer.held.begin());
    ++peer.expected;
  }
  Message answer = make(Kind::kAck, id);
  answer.envelope.ack = peer.expected - 1;
  if (!peer.held.empty()) answer.envelope.flags = kGap;
  arrival.send.push_back(std::move(answer));
  return arrival;
}

bool Resender::fresh(int id, std::uint64_t sequence) {
  if (sequence == 0) return true;
  const std::lock_guard lock(mutex_);
  const Peer& peer = peers_[id];
  return sequence >= peer.expected && !peer.held.contains(sequence);
}

std::vector<Message> Resender::due() {
  std::vector<Message> messages;
  const std::lock_guard lock(mutex_);
  const TimeNs now_ns = clock_.now_ns();
  for (auto& [id, peer] : peers_)
    for (Sent& sent : peer.sent) {
      if (!sent.under_way.expired())
        sent.again_ns = now_ns + sent.pause_ns;
      else if (now_ns >= sent.again_ns)
        messages.push_back(again(sent));
    }
  return messages;
}

std::uint64_t Resender::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

}  // namespace penstock::pslite

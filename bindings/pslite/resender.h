// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// PS_DROP_MSG and PS_RESEND: messages that arrive are thrown away by chance, and numbered,
// acknowledged, sent again and kept in order, each delivered once. Numbers have 64 bits, one
// count per pair of nodes. Only numbered messages and acknowledgements are ever thrown away.
//
// Thread: any. What it returns is for the caller to send or deliver.

#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <random>

#include "bindings/pslite/message.h"
#include "transport/base/clock.h"

namespace penstock::pslite {

struct ResendOptions {
  bool resend = false;
  int drop_percent = 0;
  TimeNs timeout_ns = kSecond;  // the longest pause before a message goes again
};

class Resender {
 public:
  Resender(const Clock& clock, ResendOptions options);

  // Of a message about to be sent the first time: gives it its number.
  void number(Message& message);

  struct Arrival {
    std::vector<Message> deliver;  // in order
    std::vector<Message> send;     // acknowledgements, and what the peer lacks
  };
  Arrival arrived(Message&& message);

  // Whether a message of this number would be news: only then it may land in somebody's memory.
  bool fresh(int peer, std::uint64_t sequence);

  // What has waited too long for its acknowledgement.
  std::vector<Message> due();

  std::uint64_t dropped() const;

 private:
  struct Sent {
    Message message;
    std::weak_ptr<const void> under_way;  // expired: the peer has had it once
    TimeNs again_ns = 0;
    TimeNs pause_ns = 0;
  };
  struct Peer {
    std::uint64_t next = 1;
    std::deque<Sent> sent;  // by number
    std::uint64_t expected = 1;
    std::map<std::uint64_t, Message> held;  // came too early
  };
  static constexpr TimeNs kFirstPauseNs = 50 * kMillisecond;

  bool unlucky();
  Message again(Sent& sent);
  static void track(Message& message, std::weak_ptr<const void>& under_way);

  const Clock& clock_;
  const ResendOptions options_;
  mutable std::mutex mutex_;
  std::minstd_rand random_;
  std::map<int, Peer> peers_;
  std::uint64_t dropped_ = 0;
};

}  // namespace penstock::pslite

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Links: the control connections of one role, with heartbeats. A link whose peer is silent for the
// detection time, or whose connection breaks, is down: for the engine that is the death of the
// peer. Thread: the role's control loop.

#include <map>
#include <string>

#include "engine/protocol/messages.h"
#include "transport/api/control.h"

namespace penstock {

class LinkHandler {
 public:
  virtual ~LinkHandler() = default;
  virtual void on_link_up(ChannelId link) = 0;  // one we asked for
  virtual void on_message(ChannelId link, wire::MessageT& message) = 0;
  // Exactly once per link, unless we closed it. Accepted links come here too.
  virtual void on_link_down(ChannelId link, const Status& reason) = 0;
};

class Links final : private ControlHandler {
 public:
  Links(ControlHub& hub, const Clock& clock, LinkHandler& handler, TimeNs detect_ns)
      : hub_(hub), clock_(clock), handler_(handler), detect_ns_(detect_ns) {}

  Result<std::string> listen(const std::string& address) { return hub_.listen(address); }
  Result<ChannelId> connect(const std::string& address, TimeNs deadline_ns);

  // A message that cannot be queued takes its link down at the next run_once().
  template <class Body>
  void send(ChannelId link, Body body) {
    send_frame(link, encode_body(std::move(body)));
  }
  void send_frame(ChannelId link, const std::vector<std::byte>& frame);
  void close(ChannelId link);                      // no event follows
  void refuse(ChannelId link, const Status& why);  // says why, then closes

  std::size_t run_once();
  int fd() const { return hub_.fd(); }
  TimeNs next_deadline_ns() const;
  void set_detect_ns(TimeNs detect_ns) { detect_ns_ = detect_ns; }
  TimeNs detect_ns() const { return detect_ns_; }

 private:
  struct Link {
    std::string peer;
    bool up = false;
    TimeNs heard_ns = 0;
    TimeNs sent_ns = 0;
    Status broken;  // to be taken down at the next run_once()
  };
  void on_accepted(ChannelId channel, const std::string& peer_address) override;
  void on_connected(ChannelId channel) override;
  void on_frame(ChannelId channel, std::span<const std::byte> frame) override;
  void on_closed(ChannelId channel, const Status& reason) override;
  std::size_t keep_alive();
  void take_down(ChannelId link, const Status& reason);

  ControlHub& hub_;
  const Clock& clock_;
  LinkHandler& handler_;
  TimeNs detect_ns_;
  TimeNs next_check_ns_ = 0;
  std::map<ChannelId, Link> links_;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The in-process twin of the TLS control hub.

#include <map>
#include <string>

#include "transport/api/control.h"
#include "transport/base/unique_fd.h"
#include "transport/loopback/control_exchange.h"

namespace penstock::loopback {

class LoopbackHub final : public ControlHub {
 public:
  // `event` is an eventfd, or none where nobody sleeps (a fabric with a fault plan).
  LoopbackHub(ControlExchange& exchange, const Clock& clock, UniqueFd event);
  ~LoopbackHub() override;

  Result<std::string> listen(const std::string& address) override;
  Result<ChannelId> connect(const std::string& address, TimeNs deadline_ns) override;
  Status send(ChannelId channel, std::span<const std::byte> frame) override;
  void close(ChannelId channel) override;
  std::size_t poll(ControlHandler& handler) override;
  int fd() const override { return event_.get(); }
  TimeNs next_deadline_ns() const override;

  void ring_bell();  // by the exchange: poll() has something to do

 private:
  struct Channel {
    LinkEnd end = 0;
    bool connecting = false;
    TimeNs deadline_ns = kNever;  // while connecting
  };

  ChannelId add(const Channel& channel);
  void forget(ChannelId channel);
  bool dispatch(const Notice& notice, ControlHandler& handler);
  std::size_t expire(ControlHandler& handler);

  ControlExchange& exchange_;
  const Clock& clock_;
  const UniqueFd event_;
  std::string name_;
  ChannelId channels_made_ = 0;
  std::map<ChannelId, Channel> channels_;
  std::map<LinkEnd, ChannelId> by_end_;
};

}  // namespace penstock::loopback

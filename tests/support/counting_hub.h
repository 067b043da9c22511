// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A control hub that counts the messages its process sends, heartbeats apart. Everything is passed
// on. Counting the senders counts each message once. Allocates nothing of its own.

#include <memory>

#include "engine/protocol/messages.h"
#include "transport/api/control.h"

namespace penstock::test {

class CountingHub final : public ControlHub {
 public:
  explicit CountingHub(std::unique_ptr<ControlHub> hub) : hub_(std::move(hub)) {}

  std::uint64_t messages() const { return messages_; }
  std::uint64_t heartbeats() const { return heartbeats_; }

  Result<std::string> listen(const std::string& address) override { return hub_->listen(address); }
  Result<ChannelId> connect(const std::string& address, TimeNs deadline_ns) override {
    return hub_->connect(address, deadline_ns);
  }
  Status send(ChannelId channel, std::span<const std::byte> frame) override {
    const bool heartbeat = wire::GetMessage(frame.data())->body_type() == wire::Body::Heartbeat;
    ++(heartbeat ? heartbeats_ : messages_);
    return hub_->send(channel, frame);
  }
  void close(ChannelId channel) override { hub_->close(channel); }
  std::size_t poll(ControlHandler& handler) override { return hub_->poll(handler); }
  int fd() const override { return hub_->fd(); }
  TimeNs next_deadline_ns() const override { return hub_->next_deadline_ns(); }

 private:
  const std::unique_ptr<ControlHub> hub_;
  std::uint64_t messages_ = 0;
  std::uint64_t heartbeats_ = 0;
};

}  // namespace penstock::test

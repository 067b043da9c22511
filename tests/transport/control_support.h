// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Hubs with a memory of their events, and strangers that speak raw TCP to them.

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/unique_fd.h"
#include "transport/control/address.h"
#include "transport/control/tls_hub.h"

namespace penstock::control {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::string_view text);
Bytes random_body(std::size_t size, std::uint64_t seed);

// A hub and what it reported.
class Party final : public ControlHandler {
 public:
  Party(const TlsHubOptions& options, const Clock& clock);

  void on_accepted(ChannelId channel, const std::string& address) override;
  void on_connected(ChannelId channel) override { connected.push_back(channel); }
  void on_frame(ChannelId channel, std::span<const std::byte> frame) override;
  void on_closed(ChannelId channel, const Status& reason) override;

  std::size_t poll() { return hub->poll(*this); }
  std::string listen() { return hub->listen("127.0.0.1:0").value(); }
  // Why the one closed channel closed; OK if none has.
  Status closed_with() const { return closed.empty() ? Status() : closed.begin()->second; }

  std::unique_ptr<ControlHub> hub;
  std::vector<ChannelId> accepted, connected;
  std::map<ChannelId, Status> closed;
  std::map<ChannelId, std::vector<Bytes>> frames;
  std::vector<std::string> addresses;                   // of accepted peers
  std::function<void(ChannelId, const Bytes&)> answer;  // called for each frame
  std::function<void(ChannelId)> greet;                 // called for each accepted channel
};

// Polls all parties, sleeping on their descriptors, until `done` or ten seconds have passed.
bool until(std::initializer_list<Party*> parties, const std::function<bool()>& done);

// Polls until nothing has happened for some rounds of waiting: what was to come has come.
void settle(std::initializer_list<Party*> parties);

struct Link {
  ChannelId near = 0, far = 0;
};
// Connects `from` to `to`, which listens on `address`.
Link link(Party& from, Party& to, const std::string& address, const Clock& clock);

TlsHubOptions with_secret(const Secret& secret);
TlsHubOptions insecurely();

// A blocking TCP socket of somebody who does not use our code.
class Stranger {
 public:
  explicit Stranger(const std::string& address);
  // False when the peer has closed.
  bool say(std::span<const std::byte> bytes) const;
  // What has arrived; waits for something or the end for up to `wait_ms`.
  std::string hear(int wait_ms = 0) const;
  // Has the peer closed?
  bool turned_away() const;
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

// Everything that is logged while it lives.
class LogCapture {
 public:
  LogCapture() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "capture", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)));
    spdlog::default_logger()->set_level(spdlog::level::trace);
  }
  ~LogCapture() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }
  std::size_t lines() const;

 private:
  std::shared_ptr<spdlog::logger> before_;
  std::ostringstream text_;
};

}  // namespace penstock::control

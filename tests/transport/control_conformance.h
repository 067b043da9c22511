// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The contract of transport/api/control.h as tests. A provider joins with a harness and one line:
//
//   INSTANTIATE_TEST_SUITE_P(
//       Mine, ControlConformance,
//       testing::Values(ControlProvider{"mine", [] { return std::make_unique<MyHarness>(); }}));
//
// The teardown fails unless every channel said on_closed at most once, last, and never after its
// owner closed it, and every descriptor is gone.

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transport/api/control.h"

namespace penstock::test {

class ControlHarness {
 public:
  virtual ~ControlHarness() = default;
  virtual const Clock& clock() const = 0;                // the hubs'
  virtual std::unique_ptr<ControlHub> create_hub() = 0;  // all hubs share one secret
  virtual void step() = 0;  // lets time pass; called after every hub was polled once
  virtual bool threads() const { return true; }  // do hubs have descriptors to sleep on?
};

struct ControlProvider {
  const char* name;
  std::function<std::unique_ptr<ControlHarness>()> make;
};
inline void PrintTo(const ControlProvider& provider, std::ostream* out) { *out << provider.name; }

using Frame = std::vector<std::byte>;

// What happened on one channel.
struct ChannelLog {
  bool accepted = false;
  bool connected = false;
  std::vector<Frame> frames;
  std::vector<Status> closed;
  bool closed_here = false;  // the test called close()
  bool open() const { return (accepted || connected) && closed.empty() && !closed_here; }
};

// A hub, its events, and what the test wants done inside them.
class Party final : public ControlHandler {
 public:
  explicit Party(std::unique_ptr<ControlHub> owned) : hub(std::move(owned)) {}

  std::unique_ptr<ControlHub> hub;
  bool paused = false;  // until() leaves it alone
  std::map<ChannelId, ChannelLog> channels;
  std::vector<ChannelId> accepted;  // in order
  std::function<void(ChannelId)> when_accepted, when_connected, when_frame, when_closed;

  void close(ChannelId channel);
  ChannelLog& log(ChannelId channel) { return channels[channel]; }

  void on_accepted(ChannelId channel, const std::string& peer_address) override;
  void on_connected(ChannelId channel) override;
  void on_frame(ChannelId channel, std::span<const std::byte> frame) override;
  void on_closed(ChannelId channel, const Status& reason) override;
};

class ControlConformance : public testing::TestWithParam<ControlProvider> {
 protected:
  void SetUp() override;
  void TearDown() override;

  ControlHarness& harness() { return *harness_; }
  Party& add_party();
  TimeNs soon() const { return harness_->clock().now_ns() + 20 * kSecond; }

  struct Pair {
    Party& server;
    Party& client;
    std::string address;
    ChannelId at_server = 0;
    ChannelId at_client = 0;
    ChannelLog& server_log() { return server.log(at_server); }
    ChannelLog& client_log() { return client.log(at_client); }
  };
  Pair connected_pair();
  std::string listen(Party& party) { return party.hub->listen("127.0.0.1:0").value(); }

  // Polls every party that is not paused and lets time pass until `condition` holds; false when a
  // generous deadline on the system's clock has passed.
  bool until(const std::function<bool()>& condition);
  void turn();

 private:
  std::unique_ptr<ControlHarness> harness_;
  std::deque<Party> parties_;
  std::size_t descriptors_before_ = 0;
};

// `size` bytes that differ by position and by seed.
Frame make_frame(std::size_t size, std::uint64_t seed);

}  // namespace penstock::test

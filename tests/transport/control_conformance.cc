// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/control_conformance.h"

#include "tests/support/descriptors.h"
#include "tests/support/pattern.h"

namespace penstock::test {
namespace {
constexpr TimeNs kPatienceNs = 60 * kSecond;
}  // namespace

Frame make_frame(std::size_t size, std::uint64_t seed) {
  Frame frame(size);
  fill_pattern(frame, seed);
  return frame;
}

void Party::close(ChannelId channel) {
  hub->close(channel);
  log(channel).closed_here = true;
}

void Party::on_accepted(ChannelId channel, const std::string& /*peer_address*/) {
  EXPECT_FALSE(channels.contains(channel)) << "a channel's number came twice";
  log(channel).accepted = true;
  accepted.push_back(channel);
  if (when_accepted) when_accepted(channel);
}

void Party::on_connected(ChannelId channel) {
  EXPECT_FALSE(log(channel).connected) << "connected twice";
  EXPECT_FALSE(log(channel).closed_here) << "an event after close()";
  log(channel).connected = true;
  if (when_connected) when_connected(channel);
}

void Party::on_frame(ChannelId channel, std::span<const std::byte> frame) {
  EXPECT_TRUE(log(channel).open()) << "a frame on a channel that is not open";
  log(channel).frames.emplace_back(frame.begin(), frame.end());
  if (when_frame) when_frame(channel);
}

void Party::on_closed(ChannelId channel, const Status& reason) {
  EXPECT_FALSE(reason.ok()) << "closed without a reason";
  EXPECT_FALSE(log(channel).closed_here) << "an event after close()";
  EXPECT_TRUE(log(channel).closed.empty()) << "closed twice";
  log(channel).closed.push_back(reason);
  if (when_closed) when_closed(channel);
}

void ControlConformance::SetUp() {
  descriptors_before_ = open_descriptors();
  harness_ = GetParam().make();
}

void ControlConformance::TearDown() {
  for (Party& party : parties_) party.paused = false;
  for (int i = 0; i < 20; ++i) turn();  // time for events that must not come
  parties_.clear();
  harness_.reset();
  EXPECT_EQ(open_descriptors(), descriptors_before_) << "descriptors leaked";
}

Party& ControlConformance::add_party() { return parties_.emplace_back(harness_->create_hub()); }

ControlConformance::Pair ControlConformance::connected_pair() {
  Party& server = add_party();
  Party& client = add_party();
  Pair pair{server, client, listen(server)};
  pair.at_client = client.hub->connect(pair.address, soon()).value();
  EXPECT_TRUE(until([&] { return pair.client_log().connected && server.accepted.size() == 1; }));
  if (!server.accepted.empty()) pair.at_server = server.accepted[0];
  return pair;
}

bool ControlConformance::until(const std::function<bool()>& condition) {
  const SystemClock wall;
  const TimeNs deadline_ns = wall.now_ns() + kPatienceNs;
  while (!condition()) {
    if (wall.now_ns() > deadline_ns) return false;
    turn();
  }
  return true;
}

void ControlConformance::turn() {
  for (Party& party : parties_) {
    if (party.hub && !party.paused) party.hub->poll(party);
  }
  harness_->step();
}

}  // namespace penstock::test

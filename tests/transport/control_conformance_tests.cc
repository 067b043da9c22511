// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include "tests/transport/control_conformance.h"

namespace penstock::test {
namespace {

TEST_P(ControlConformance, BothSidesLearnOfTheConnection) {
  Pair pair = connected_pair();
  EXPECT_TRUE(pair.server_log().accepted);
  EXPECT_TRUE(pair.client_log().connected);
  EXPECT_TRUE(pair.server_log().frames.empty());
}

TEST_P(ControlConformance, PortZeroGivesEachHubAnAddressOfItsOwn) {
  Party& one = add_party();
  Party& other = add_party();
  const std::string first = listen(one);
  const std::string second = listen(other);
  EXPECT_NE(first, second);
  EXPECT_EQ(first.find("127.0.0.1:"), 0U);
  EXPECT_NE(first, "127.0.0.1:0");
}

TEST_P(ControlConformance, ATakenAddressIsRefused) {
  Party& one = add_party();
  Party& other = add_party();
  const std::string address = listen(one);
  EXPECT_FALSE(other.hub->listen(address).ok());
  EXPECT_FALSE(other.hub->listen("nonsense").ok());
}

TEST_P(ControlConformance, FramesArriveWholeAndInOrderBothWays) {
  Pair pair = connected_pair();
  const std::vector<std::size_t> sizes{1, 0, 5, 16'384, 3, 16'385, 100'003, 1, 1'000'000, 2};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    ASSERT_TRUE(pair.client.hub->send(pair.at_client, make_frame(sizes[i], i)).ok());
    ASSERT_TRUE(pair.server.hub->send(pair.at_server, make_frame(sizes[i], 100 + i)).ok());
  }
  ASSERT_TRUE(until([&] {
    return pair.server_log().frames.size() == sizes.size() &&
           pair.client_log().frames.size() == sizes.size();
  }));
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_TRUE(pair.server_log().frames[i] == make_frame(sizes[i], i)) << i;
    EXPECT_TRUE(pair.client_log().frames[i] == make_frame(sizes[i], 100 + i)) << i;
  }
}

TEST_P(ControlConformance, TheLargestFramePassesAndALargerOneIsRefused) {
  Pair pair = connected_pair();
  const Frame largest = make_frame(kMaxControlFrameBytes, 1);
  ASSERT_TRUE(pair.client.hub->send(pair.at_client, largest).ok());
  EXPECT_FALSE(
      pair.client.hub->send(pair.at_client, make_frame(kMaxControlFrameBytes + 1, 2)).ok());
  // The refused one changed nothing.
  ASSERT_TRUE(pair.client.hub->send(pair.at_client, make_frame(3, 3)).ok());
  ASSERT_TRUE(until([&] { return pair.server_log().frames.size() == 2; }));
  EXPECT_TRUE(pair.server_log().frames[0] == largest);
  EXPECT_TRUE(pair.server_log().frames[1] == make_frame(3, 3));
}

TEST_P(ControlConformance, APeerThatDoesNotReadCannotMakeUsGrow) {
  // What the system's buffers may take beside the queue.
  constexpr std::size_t kSlackBytes = std::size_t{32} << 20;
  constexpr std::size_t kFrameBytes = std::size_t{4} << 20;
  Pair pair = connected_pair();
  pair.server.paused = true;
  std::size_t accepted = 0;
  Status status;
  while (status.ok() && accepted * kFrameBytes <= kMaxControlQueueBytes + kSlackBytes) {
    status = pair.client.hub->send(pair.at_client, make_frame(kFrameBytes, accepted));
    if (status.ok()) ++accepted;
  }
  EXPECT_EQ(status.code(), Code::kExhausted);
  EXPECT_GE(accepted * kFrameBytes, kMaxControlQueueBytes / 2);
  // Once it reads, everything that was accepted arrives, and sending works again.
  pair.server.paused = false;
  ASSERT_TRUE(until([&] { return pair.server_log().frames.size() == accepted; }));
  for (std::size_t i = 0; i < accepted; ++i)
    EXPECT_TRUE(pair.server_log().frames[i] == make_frame(kFrameBytes, i)) << i;
  ASSERT_TRUE(pair.client.hub->send(pair.at_client, make_frame(1, 1)).ok());
  EXPECT_TRUE(until([&] { return pair.server_log().frames.size() == accepted + 1; }));
}

TEST_P(ControlConformance, SendingOnAChannelThatIsNotThereIsRefused) {
  Pair pair = connected_pair();
  EXPECT_EQ(pair.client.hub->send(pair.at_client + 1000, make_frame(1, 1)).code(), Code::kNotFound);
  pair.client.close(pair.at_client);
  EXPECT_EQ(pair.client.hub->send(pair.at_client, make_frame(1, 1)).code(), Code::kNotFound);
  pair.client.hub->close(pair.at_client);         // idempotent
  pair.client.hub->close(pair.at_client + 1000);  // and harmless
  ASSERT_TRUE(until([&] { return pair.server_log().closed.size() == 1; }));
  EXPECT_EQ(pair.server.hub->send(pair.at_server, make_frame(1, 1)).code(), Code::kNotFound);
}

TEST_P(ControlConformance, ClosingSendsWhatWasQueuedFirst) {
  Pair pair = connected_pair();
  for (std::size_t i = 0; i < 20; ++i)
    ASSERT_TRUE(pair.client.hub->send(pair.at_client, make_frame(50'000, i)).ok());
  pair.client.close(pair.at_client);
  ASSERT_TRUE(until([&] { return pair.server_log().closed.size() == 1; }));
  ASSERT_EQ(pair.server_log().frames.size(), 20U);
  EXPECT_TRUE(pair.server_log().frames[19] == make_frame(50'000, 19));
  EXPECT_TRUE(pair.client_log().closed.empty());
}

TEST_P(ControlConformance, TheAcceptingSideMayCloseToo) {
  Pair pair = connected_pair();
  ASSERT_TRUE(pair.server.hub->send(pair.at_server, make_frame(9, 9)).ok());
  pair.server.close(pair.at_server);
  ASSERT_TRUE(until([&] { return pair.client_log().closed.size() == 1; }));
  EXPECT_EQ(pair.client_log().frames.size(), 1U);
}

TEST_P(ControlConformance, BothSidesMayCloseAtOnce) {
  Pair pair = connected_pair();
  pair.server.close(pair.at_server);
  pair.client.close(pair.at_client);
  for (int i = 0; i < 50; ++i) turn();
  EXPECT_TRUE(pair.server_log().closed.empty());
  EXPECT_TRUE(pair.client_log().closed.empty());
}

TEST_P(ControlConformance, HandlersMaySendAndClose) {
  Pair pair{add_party(), add_party(), ""};
  pair.address = listen(pair.server);
  // Receive: the server greets, the client answers, the server closes inside the answer's event.
  pair.server.when_accepted = [&](ChannelId channel) {
    EXPECT_TRUE(pair.server.hub->send(channel, make_frame(10, 1)).ok());
  };
  pair.client.when_frame = [&](ChannelId channel) {
    EXPECT_TRUE(pair.client.hub->send(channel, make_frame(20, 2)).ok());
    EXPECT_TRUE(pair.client.hub->send(channel, make_frame(20, 3)).ok());
  };
  pair.server.when_frame = [&](ChannelId channel) { pair.server.close(channel); };
  pair.at_client = pair.client.hub->connect(pair.address, soon()).value();
  ASSERT_TRUE(until([&] { return pair.client_log().closed.size() == 1; }));
  // Expect that the second answer was not seen: the channel was closed before.
  EXPECT_EQ(pair.server.log(pair.server.accepted.at(0)).frames.size(), 1U);
}

TEST_P(ControlConformance, HandlersMayConnect) {
  Pair pair = connected_pair();
  ChannelId again = 0;
  pair.client.when_closed = [&](ChannelId) {
    again = pair.client.hub->connect(pair.address, soon()).value();
  };
  pair.server.close(pair.at_server);
  ASSERT_TRUE(until([&] { return again != 0 && pair.client.log(again).connected; }));
  EXPECT_NE(again, pair.at_client) << "a channel's number came twice";
}

TEST_P(ControlConformance, APeerThatIsGoneIsNoticed) {
  Pair pair = connected_pair();
  Party& bystander = add_party();
  const ChannelId other = bystander.hub->connect(pair.address, soon()).value();
  ASSERT_TRUE(until([&] { return bystander.log(other).connected; }));
  pair.client.hub.reset();
  ASSERT_TRUE(until([&] { return pair.server_log().closed.size() == 1; }));
  ASSERT_TRUE(bystander.hub->send(other, make_frame(5, 5)).ok());
  ASSERT_TRUE(
      until([&] { return pair.server.log(pair.server.accepted.at(1)).frames.size() == 1; }));
}

TEST_P(ControlConformance, ConnectingToNobodyEnds) {
  Party& gone = add_party();
  const std::string address = listen(gone);
  gone.hub.reset();
  Party& client = add_party();
  const ChannelId channel =
      client.hub->connect(address, harness().clock().now_ns() + 200 * kMillisecond).value();
  ASSERT_TRUE(until([&] { return client.log(channel).closed.size() == 1; }));
  EXPECT_FALSE(client.log(channel).connected);
  EXPECT_EQ(client.hub->send(channel, make_frame(1, 1)).code(), Code::kNotFound);
}

TEST_P(ControlConformance, ConnectingToNonsenseIsRefusedOrEnds) {
  Party& client = add_party();
  for (const char* address : {"", "nonsense", "127.0.0.1", "127.0.0.1:99999"}) {
    const Result<ChannelId> channel =
        client.hub->connect(address, harness().clock().now_ns() + 200 * kMillisecond);
    if (!channel.ok()) continue;
    EXPECT_TRUE(until([&] { return client.log(channel.value()).closed.size() == 1; })) << address;
  }
}

TEST_P(ControlConformance, ConnectingEndsAtItsDeadline) {
  Party& deaf = add_party();
  const std::string address = listen(deaf);
  deaf.paused = true;  // never accepts
  Party& client = add_party();
  const TimeNs deadline_ns = harness().clock().now_ns() + 50 * kMillisecond;
  const ChannelId channel = client.hub->connect(address, deadline_ns).value();
  EXPECT_LE(client.hub->next_deadline_ns(), deadline_ns);
  ASSERT_TRUE(until([&] { return client.log(channel).closed.size() == 1; }));
  EXPECT_GE(harness().clock().now_ns(), deadline_ns);
  EXPECT_EQ(client.log(channel).closed[0].code(), Code::kTimeout);
}

TEST_P(ControlConformance, ADeadlineDoesNotEndAConnectedChannel) {
  Party& server = add_party();
  Party& client = add_party();
  const TimeNs deadline_ns = harness().clock().now_ns() + 300 * kMillisecond;
  const ChannelId channel = client.hub->connect(listen(server), deadline_ns).value();
  ASSERT_TRUE(until([&] { return client.log(channel).connected; }));
  ASSERT_TRUE(until([&] { return harness().clock().now_ns() > deadline_ns; }));
  turn();
  ASSERT_TRUE(client.hub->send(channel, make_frame(1, 1)).ok());
  ASSERT_TRUE(until([&] {
    return !server.accepted.empty() && server.log(server.accepted[0]).frames.size() == 1;
  }));
}

TEST_P(ControlConformance, OneHubServesManyPeers) {
  constexpr std::size_t kPeers = 24;
  Party& server = add_party();
  const std::string address = listen(server);
  std::map<std::size_t, std::pair<Party*, ChannelId>> peers;
  for (std::size_t i = 0; i < kPeers; ++i) {
    Party& peer = add_party();
    peers[i] = {&peer, peer.hub->connect(address, soon()).value()};
  }
  for (const auto& [i, peer] : peers) {
    const ChannelLog& log = peer.first->log(peer.second);
    ASSERT_TRUE(until([&log] { return log.connected; }));
    ASSERT_TRUE(peer.first->hub->send(peer.second, make_frame(1'000 + i, i)).ok());
  }
  ASSERT_TRUE(until([&] {
    std::size_t frames = 0;
    for (const ChannelId channel : server.accepted) frames += server.log(channel).frames.size();
    return frames == kPeers;
  }));
  // Each peer hears its own frame back and no other.
  for (const ChannelId channel : server.accepted) {
    ASSERT_EQ(server.log(channel).frames.size(), 1U);
    ASSERT_TRUE(server.hub->send(channel, server.log(channel).frames[0]).ok());
  }
  for (const auto& [i, peer] : peers) {
    const ChannelLog& log = peer.first->log(peer.second);
    ASSERT_TRUE(until([&log] { return log.frames.size() == 1; }));
    EXPECT_TRUE(log.frames[0] == make_frame(1'000 + i, i)) << i;
  }
}

TEST_P(ControlConformance, FloodsBothWaysDoNotBlockEachOther) {
  constexpr std::size_t kFrames = 200;
  Pair pair = connected_pair();
  for (std::size_t i = 0; i < kFrames; ++i) {
    ASSERT_TRUE(pair.client.hub->send(pair.at_client, make_frame(65'000, i)).ok());
    ASSERT_TRUE(pair.server.hub->send(pair.at_server, make_frame(65'000, i)).ok());
  }
  EXPECT_TRUE(until([&] {
    return pair.server_log().frames.size() == kFrames && pair.client_log().frames.size() == kFrames;
  }));
}

TEST_P(ControlConformance, ADescriptorTellsWhenToPoll) {
  if (!harness().threads()) GTEST_SKIP() << "this provider is driven on one thread";
  Pair pair = connected_pair();
  for (std::size_t i = 1; i <= 50; ++i) {
    // Only what the descriptor announces is polled, so a silent descriptor ends in the time-out.
    ASSERT_TRUE(pair.client.hub->send(pair.at_client, make_frame(100, i)).ok());
    pair.client.hub->poll(pair.client);
    while (pair.server_log().frames.size() < i) {
      pollfd wait{pair.server.hub->fd(), POLLIN, 0};
      ASSERT_EQ(::poll(&wait, 1, 20'000), 1);
      pair.server.hub->poll(pair.server);
    }
  }
}

}  // namespace
}  // namespace penstock::test

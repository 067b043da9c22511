// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/transport/tcp_raw_peer.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

TEST(TcpDevice, NamesAddressAndPortWhenThePortIsTaken) {
  SystemClock clock;
  auto first = open_tcp_device({}, clock);
  ASSERT_TRUE(first.ok());
  const std::string& address = (*first)->address();
  const auto port = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  auto second = open_tcp_device({.port = port, .advertise_host = {}}, clock);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kAlreadyExists);
  EXPECT_THAT(second.status().to_string(), HasSubstr("127.0.0.1"));
  EXPECT_THAT(second.status().to_string(), HasSubstr(std::to_string(port)));
}

TEST(TcpDevice, AsksForAHostToAdvertiseWhenBoundToEveryInterface) {
  SystemClock clock;
  auto device = open_tcp_device({.bind_address = "0.0.0.0", .advertise_host = {}}, clock);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().code(), Code::kInvalidArgument);
  auto named = open_tcp_device({.bind_address = "0.0.0.0", .advertise_host = "127.0.0.1"}, clock);
  ASSERT_TRUE(named.ok());
  EXPECT_THAT((*named)->address(), ::testing::StartsWith("tcp:127.0.0.1:"));
}

TEST(TcpDevice, RefusesMoreEndpointsThanItMayHave) {
  SystemClock clock;
  TcpSide side(clock, {.advertise_host = {}, .max_endpoints = 2});
  EXPECT_EQ(side.device->capabilities().max_endpoints, 2U);
  const auto accept = [&] {
    EndpointOptions options;
    options.token = random_token();
    return side.device->accept(*side.queue, options);
  };
  auto first = accept(), second = accept();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(accept().status().code(), Code::kExhausted);
  auto third = side.device->connect(*side.queue, side.device->address(), {});
  ASSERT_EQ(third.status().code(), Code::kExhausted);
  EXPECT_THAT(third.status().what(), HasSubstr("2 endpoints"));
  // What goes away makes room; what could not be made takes none.
  first->reset();
  EndpointOptions bad;
  bad.send_depth = 0;
  EXPECT_EQ(side.device->accept(*side.queue, bad).status().code(), Code::kInvalidArgument);
  EXPECT_FALSE(side.device->connect(*side.queue, "tcp:nowhere", {}).ok());
  EXPECT_TRUE(accept().ok());
}

TEST(TcpEndpoint, WritesWithImmediateBothWays) {
  TcpPair pair;
  ASSERT_TRUE(pair.connect());
  for (std::size_t i = 0; i < pair.a.bytes.size(); ++i) pair.a.bytes[i] = std::byte(i * 7);
  for (const std::uint64_t length : {0UL, 1UL, 64UL, 4096UL, 70'000UL, 1UL << 20}) {
    ASSERT_TRUE(pair.a.write(pair.b, 0, length, 5).ok());
    const auto arrived = pair.b.wait_for(Event::kImmediate);
    ASSERT_TRUE(arrived.has_value());
    EXPECT_EQ(arrived->immediate, 5U);
    EXPECT_EQ(arrived->length, length);
    EXPECT_TRUE(std::equal(pair.a.bytes.begin(),
                           pair.a.bytes.begin() + static_cast<std::ptrdiff_t>(length),
                           pair.b.bytes.begin()));
    const auto done = pair.a.wait_for(Event::kWriteDone);
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(done->code, Code::kOk);
  }
}

TEST(TcpEndpoint, TellsTheReaderOfARegionThatGoesAwayBeforeTheResponse) {
  TcpPair pair;
  ASSERT_TRUE(pair.connect());
  // Receive many reads, more than the sockets hold of their responses; nobody takes those in yet.
  const RemoteRegion remote = pair.b.region->describe();
  constexpr std::uint64_t kReads = 640, kBytes = 64 << 10;
  for (std::uint64_t tag = 0; tag < kReads; ++tag) {
    ASSERT_TRUE(pair.a.endpoint
                    ->post({.opcode = Opcode::kRead,
                            .tag = tag,
                            .local = pair.a.region.get(),
                            .length = kBytes,
                            .remote = &remote})
                    .ok());
  }
  pair.a.poll();
  for (int i = 0; i < 1000; ++i) pair.b.poll();
  pair.b.region.reset();
  // Expect an end at both, each read completed once, in order, and the first ones good.
  ASSERT_TRUE(pair.a.wait_for(Event::kDisconnected).has_value());
  ASSERT_TRUE(pair.b.wait_for(Event::kDisconnected).has_value());
  EXPECT_EQ(pair.b.endpoint->status().code(), Code::kStale);
  EXPECT_NE(pair.a.endpoint->status().code(), Code::kOk);
  ASSERT_EQ(pair.a.events.size(), kReads);
  std::uint64_t tag = 0;
  for (const Completion& event : pair.a.events) EXPECT_EQ(event.tag, tag++);
  EXPECT_EQ(pair.a.events.front().code, Code::kOk);
  EXPECT_NE(pair.a.events.back().code, Code::kOk);
}

// Steady two-way traffic: every acknowledgement rides on a frame that goes that way anyway.
TEST(TcpEndpoint, SpendsNoFrameOnAcknowledgementsWhenItAnswers) {
  constexpr std::uint32_t kRounds = 100;
  SystemClock clock;
  TcpSide side(clock);
  EndpointOptions options;
  options.token = random_token();
  side.endpoint = side.device->accept(*side.queue, options).value();
  RawPeer raw(side.device->address());
  ASSERT_TRUE(raw.say_hello(options.token));
  const auto drive = [&] { side.poll(); };
  ASSERT_EQ(raw.hear(drive)->type, tcp::FrameType::kWelcome);
  ASSERT_TRUE(side.wait_for(Event::kConnected).has_value());
  for (std::uint32_t i = 1; i <= kRounds; ++i) {
    // Receive an immediate; answer it before the next poll, as the engine does.
    ASSERT_TRUE(raw.say(sealed({.type = tcp::FrameType::kWrite,
                                .flags = tcp::kFlagImmediate,
                                .sequence = i,
                                .ack = i - 1,
                                .immediate = i})));
    ASSERT_TRUE(side.wait_for(Event::kImmediate).has_value());
    ASSERT_TRUE(side.endpoint->post({.has_immediate = true, .immediate = i, .tag = i}).ok());
    // Expect the answer, which acknowledges, and nothing else.
    const auto answer = raw.hear(drive);
    ASSERT_TRUE(answer.has_value());
    ASSERT_EQ(answer->type, tcp::FrameType::kWrite);
    ASSERT_EQ(answer->immediate, i);
    ASSERT_EQ(answer->ack, i);
  }
}

TEST(TcpEndpoint, CollectsAcknowledgementsOfABurst) {
  constexpr std::uint32_t kBurst = 50;
  SystemClock clock;
  TcpSide side(clock);
  EndpointOptions options;
  options.token = random_token();
  side.endpoint = side.device->accept(*side.queue, options).value();
  RawPeer raw(side.device->address());
  ASSERT_TRUE(raw.say_hello(options.token));
  const auto drive = [&] { side.poll(); };
  ASSERT_EQ(raw.hear(drive)->type, tcp::FrameType::kWelcome);
  std::vector<tcp::FrameHeader> burst;
  for (std::uint32_t i = 1; i <= kBurst; ++i)
    burst.push_back(sealed({.type = tcp::FrameType::kWrite, .sequence = i}));
  ASSERT_TRUE(raw.say(std::as_bytes(std::span(burst))));
  // Expect a few acknowledgements at most for fifty writes, the last one for all of them.
  std::uint32_t frames = 0;
  for (std::uint64_t acked = 0; acked < kBurst; ++frames) {
    const auto ack = raw.hear(drive);
    ASSERT_TRUE(ack.has_value());
    ASSERT_EQ(ack->type, tcp::FrameType::kAck);
    acked = ack->ack;
  }
  EXPECT_LE(frames, 5U);
}

}  // namespace
}  // namespace penstock

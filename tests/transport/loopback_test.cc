// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What only the in-process network promises: exact queues, counted leftovers, control deaths.
#include "tests/support/pattern.h"
#include "tests/transport/control_conformance.h"
#include "transport/loopback/fabric.h"

namespace penstock::test {
namespace {

WorkRequest immediate(std::uint32_t value) {
  WorkRequest request;
  request.has_immediate = true;
  request.immediate = value;
  request.tag = value;
  return request;
}

struct Pair {
  explicit Pair(std::uint32_t depth) : there(b->create_completion_queue(depth).value()) {
    EndpointOptions options;
    to = b->accept(*there, options).value();
    from = a->connect(*here, b->address(), options).value();
    std::array<Completion, 1> connected;
    EXPECT_EQ(here->poll(connected), 1U);
    EXPECT_EQ(there->poll(connected), 1U);
  }
  SystemClock clock;
  LoopbackFabric fabric{clock};
  std::unique_ptr<Device> a = fabric.create_device(1);
  std::unique_ptr<Device> b = fabric.create_device(2);
  std::unique_ptr<CompletionQueue> here = a->create_completion_queue(1).value();
  std::unique_ptr<CompletionQueue> there;
  std::unique_ptr<Endpoint> to, from;
};

TEST(Loopback, AQueueTakesItsDepthInArrivalsAndThePostsWait) {
  Pair pair(4);
  for (std::uint32_t i = 0; i < 10; ++i) ASSERT_TRUE(pair.from->post(immediate(i)).ok());
  std::array<Completion, 16> taken;
  // Receive ten. Expect four applied, six waiting at the poster.
  EXPECT_EQ(pair.here->poll(taken), 4U);
  EXPECT_EQ(pair.here->poll(taken), 0U);
  EXPECT_EQ(pair.fabric.pending_ops(), 6U);
  EXPECT_FALSE(pair.here->arm()) << "a sleeper would not see the room";
  // What was taken holds its cells until the next poll.
  EXPECT_EQ(pair.there->poll(taken), 4U);
  EXPECT_EQ(pair.here->poll(taken), 0U);
  EXPECT_FALSE(pair.there->arm());
  EXPECT_EQ(pair.there->poll(taken), 0U);
  EXPECT_EQ(pair.here->poll(taken), 4U);
  EXPECT_EQ(pair.there->poll(taken), 4U);
  EXPECT_EQ(taken[3].immediate, 7U);
  EXPECT_EQ(pair.fabric.pending_ops(), 2U);
}

TEST(Loopback, AWriteThatWaitsForRoomDoesNotLandEarly) {
  Pair pair(1);
  std::vector<std::byte> source(100, std::byte{1});
  std::vector<std::byte> target(100);
  auto from = pair.a->register_memory(source, MemoryKind::kHost, Access::kLocal).value();
  auto to = pair.b->register_memory(target, MemoryKind::kHost, Access::kRemoteWrite).value();
  WorkRequest request = immediate(2);
  request.local = from.get();
  request.remote = &to->describe();
  request.length = 100;
  ASSERT_TRUE(pair.from->post(immediate(1)).ok());
  ASSERT_TRUE(pair.from->post(request).ok());
  EXPECT_TRUE(all_zero(target));
  std::array<Completion, 4> taken;
  EXPECT_EQ(pair.there->poll(taken), 1U);
  EXPECT_EQ(pair.there->poll(taken), 0U);
  EXPECT_EQ(pair.here->poll(taken), 2U);
  EXPECT_FALSE(all_zero(target));
  EXPECT_EQ(pair.there->poll(taken), 1U);
}

TEST(Loopback, BytesLentAreStillRegisteredWhenTheyMove) {
  Pair pair(1);
  std::vector<std::byte> source(100, std::byte{1});
  std::vector<std::byte> target(100);
  auto from = pair.a->register_memory(source, MemoryKind::kHost, Access::kLocal).value();
  auto to = pair.b->register_memory(target, MemoryKind::kHost, Access::kRemoteWrite).value();
  WorkRequest request = immediate(2);
  request.local = from.get();
  request.remote = &to->describe();
  request.length = 100;
  ASSERT_TRUE(pair.from->post(immediate(1)).ok());
  ASSERT_TRUE(pair.from->post(request).ok());
  from.reset();  // while the post waits for room
  std::array<Completion, 4> taken;
  EXPECT_EQ(pair.there->poll(taken), 1U);
  EXPECT_EQ(pair.there->poll(taken), 0U);
  EXPECT_EQ(pair.here->poll(taken), 3U);
  EXPECT_EQ(taken[1].code, Code::kStale);
  EXPECT_EQ(taken[2].event, Event::kDisconnected);
  EXPECT_TRUE(all_zero(target));
}

TEST(Loopback, LeftoversAreCounted) {
  Pair pair(1);
  std::vector<std::byte> bytes(10);
  auto region = pair.a->register_memory(bytes, MemoryKind::kHost, Access::kLocal).value();
  EXPECT_EQ(pair.fabric.live_regions(), 1U);
  EXPECT_EQ(pair.fabric.live_endpoints(), 2U);
  EXPECT_EQ(pair.fabric.pending_ops(), 0U);
  ASSERT_TRUE(pair.from->post(immediate(1)).ok());
  EXPECT_EQ(pair.fabric.pending_ops(), 1U);
  region.reset();
  pair.from.reset();
  EXPECT_EQ(pair.fabric.live_regions(), 0U);
  EXPECT_EQ(pair.fabric.live_endpoints(), 1U);
  EXPECT_EQ(pair.fabric.pending_ops(), 0U);
}

TEST(LoopbackDeathTest, WhatADeviceMadeIsDestroyedBeforeIt) {
  SystemClock clock;
  EXPECT_DEATH(
      {
        LoopbackFabric fabric(clock);
        auto device = fabric.create_device(1);
        std::vector<std::byte> bytes(10);
        auto region = device->register_memory(bytes, MemoryKind::kHost, Access::kLocal).value();
        device.reset();
      },
      "destroyed before its");
  EXPECT_DEATH(
      {
        auto fabric = std::make_unique<LoopbackFabric>(clock);
        auto device = fabric->create_device(1);
        fabric.reset();
      },
      "the fabric is destroyed before");
}

TEST(Loopback, RefusesSizesThatMakeNoSense) {
  Pair pair(1);
  std::vector<std::byte> bytes;
  EXPECT_EQ(pair.a->create_completion_queue(0).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(pair.a->register_memory(bytes, MemoryKind::kHost, Access::kLocal).status().code(),
            Code::kInvalidArgument);
  EndpointOptions options;
  options.send_depth = 0;
  EXPECT_EQ(pair.a->accept(*pair.here, options).status().code(), Code::kInvalidArgument);
  options.send_depth = 1;
  EXPECT_EQ(pair.a->accept(*pair.there, options).status().code(), Code::kInvalidArgument)
      << "the queue of another device";
  auto waiting = pair.a->accept(*pair.here, options).value();
  EXPECT_EQ(pair.a->accept(*pair.here, options).status().code(), Code::kAlreadyExists);
}

// A server and a client hub with one channel, on a virtual clock.
class ControlFaults : public testing::Test {
 protected:
  static FaultPlan plan() {
    FaultPlan plan;
    plan.seed = 77;
    plan.control = {kMicrosecond, 100 * kMicrosecond};
    return plan;
  }
  void SetUp() override {
    address_ = server_.hub->listen("127.0.0.1:0").value();
    channel_ = client_.hub->connect(address_, kNever).value();
    run(kSecond);
    ASSERT_TRUE(client_.log(channel_).connected);
  }
  void run(TimeNs span_ns) {
    const TimeNs end_ns = clock_.now_ns() + span_ns;
    while (clock_.now_ns() < end_ns) {
      const TimeNs next_ns = std::min(fabric_.next_event_ns(), end_ns);
      clock_.advance(std::max<TimeNs>(next_ns - clock_.now_ns(), 0));
      fabric_.step();
      if (server_.hub) server_.hub->poll(server_);
      client_.hub->poll(client_);
    }
  }

  ManualClock clock_;
  LoopbackFabric fabric_{clock_, plan()};
  Party server_{fabric_.create_hub()};
  Party client_{fabric_.create_hub()};
  std::string address_;
  ChannelId channel_ = 0;
};

TEST_F(ControlFaults, ALoudDeathClosesTheChannelsAtThePeers) {
  fabric_.kill(*server_.hub, LoopbackFabric::Death::kLoud);
  server_.hub.reset();
  run(kSecond);
  ASSERT_EQ(client_.log(channel_).closed.size(), 1U);
  EXPECT_EQ(client_.log(channel_).closed[0].code(), Code::kConnectionLost);
}

TEST_F(ControlFaults, ASilentDeathLeavesTheChannelsHalfOpen) {
  fabric_.kill(*server_.hub, LoopbackFabric::Death::kSilent);
  server_.hub.reset();
  run(3600 * kSecond);
  EXPECT_TRUE(client_.log(channel_).closed.empty());
  EXPECT_TRUE(client_.hub->send(channel_, make_frame(10, 1)).ok()) << "the kernel still queues";
  // Who connects there waits for its deadline.
  const ChannelId again = client_.hub->connect(address_, clock_.now_ns() + kSecond).value();
  run(2 * kSecond);
  ASSERT_EQ(client_.log(again).closed.size(), 1U);
  EXPECT_EQ(client_.log(again).closed[0].code(), Code::kTimeout);
  // A replacement may listen at the same address.
  Party reborn(fabric_.create_hub());
  EXPECT_EQ(reborn.hub->listen(address_).value(), address_);
  const ChannelId third = client_.hub->connect(address_, kNever).value();
  run(kSecond);
  reborn.hub->poll(reborn);
  run(kSecond);
  EXPECT_TRUE(client_.log(third).connected);
}

TEST_F(ControlFaults, ACutEndsBothSidesAndLosesWhatWasUnderWay) {
  for (std::uint32_t i = 0; i < 30; ++i)
    ASSERT_TRUE(client_.hub->send(channel_, make_frame(100, i)).ok());
  fabric_.cut_control(*client_.hub, *server_.hub);
  run(kSecond);
  ASSERT_EQ(server_.accepted.size(), 1U);
  ChannelLog& log = server_.log(server_.accepted[0]);
  EXPECT_EQ(log.closed.size(), 1U);
  EXPECT_EQ(client_.log(channel_).closed.size(), 1U);
  EXPECT_LT(log.frames.size(), 30U);
  for (std::uint32_t i = 0; i < log.frames.size(); ++i)
    EXPECT_TRUE(log.frames[i] == make_frame(100, i));
}

TEST_F(ControlFaults, FramesTakeTheirTime) {
  ASSERT_TRUE(client_.hub->send(channel_, make_frame(10, 1)).ok());
  server_.hub->poll(server_);
  EXPECT_TRUE(server_.log(server_.accepted[0]).frames.empty());
  EXPECT_GT(fabric_.next_event_ns(), clock_.now_ns());
  run(kMillisecond);
  EXPECT_EQ(server_.log(server_.accepted[0]).frames.size(), 1U);
}

}  // namespace
}  // namespace penstock::test

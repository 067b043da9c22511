// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Connections over several rails of the fake NIC: what goes where, and what happens when one fails.

#include <gmock/gmock.h>

#include <map>

#include "tests/transport/verbs_fake_support.h"

namespace penstock::test {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr std::uint8_t kEdr = 32, kHdr = 64;  // 25 and 50 Gb/s a lane

FabricOptions rails_of(std::uint8_t first, std::uint8_t second) {
  FabricOptions options = FakeDevices::four_nics();
  for (const std::size_t side : {0U, 2U}) {
    options.nics[side].ports[0].active_speed = first;
    options.nics[side + 1].ports[0].active_speed = second;
  }
  return options;
}

class Rails {
 public:
  explicit Rails(const FabricOptions& options = FakeDevices::four_nics()) : devices(options) {}

  // Writes of all of a's bytes, unordered, tagged from 0.
  void write(FakeEnd& from, std::uint64_t count, bool immediate = false) {
    for (std::uint64_t i = 0; i < count; ++i) {
      WorkRequest request;
      request.tag = request.immediate = static_cast<std::uint32_t>(from.posted.size());
      request.unordered = true;
      request.has_immediate = immediate;
      request.local = devices.region[from.side].get();
      request.length = devices.bytes[from.side].size();
      request.remote = &devices.region[1 - from.side]->describe();
      work.push_back(request);
      from.posted.push_back(request.tag);
    }
    ASSERT_EQ(from.endpoint->post(work).to_string(), "ok");
    work.clear();
  }
  std::uint64_t sent(const std::string& rail) const {
    return devices.counter(0, rail + ":1.bytes_sent") / devices.bytes[0].size();
  }
  // The queue pair of `end` on the rail where its first one is not.
  std::uint32_t second_path(const FakeDevices::Link& ends) const {
    const std::vector<std::uint32_t> all = devices.fabric.live_queue_pairs();
    const auto first = std::find(all.begin(), all.end(), ends.b.qp);
    return *(first + 1);  // the connector's: it is made before the acceptor's
  }
  bool all_done(const FakeEnd& end) {
    return devices.until([&] { return end.done.size() == end.posted.size(); });
  }

  FakeDevices devices;
  std::vector<WorkRequest> work;
};

TEST(VerbsRailsOnFake, BytesOfOneConnectionSpreadInProportionToTheLinks) {
  Rails rails(rails_of(kHdr, kEdr));
  const auto ends = rails.devices.link();
  for (int burst = 0; burst < 4; ++burst) {
    rails.write(ends.a, 90);  // decided while none of the burst is known to be done
    ASSERT_TRUE(rails.all_done(ends.a));
  }
  EXPECT_THAT(ends.a.codes(), Each(Code::kOk));
  EXPECT_EQ(rails.sent("a0"), 240U);
  EXPECT_EQ(rails.sent("a1"), 120U);
}

TEST(VerbsRailsOnFake, OrderedTrafficStaysOnOneRail) {
  Rails rails;
  const auto ends = rails.devices.link();
  for (std::uint64_t tag = 0; tag < 60; ++tag)
    ASSERT_TRUE(rails.devices.write(ends.a, {tag}, tag % 2 == 0).ok());
  ASSERT_TRUE(rails.all_done(ends.a));
  EXPECT_EQ(rails.sent("a0"), 60U);
  EXPECT_EQ(rails.sent("a1"), 0U);
  EXPECT_TRUE(rails.devices.until([&] { return ends.b.immediates.size() == 30; }));
  for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(ends.b.immediates[i].immediate, 2 * i);
}

TEST(VerbsRailsOnFake, ARailSlowerThanItsLinkGetsLess) {
  Rails rails;
  const auto ends = rails.devices.link();
  rails.devices.fabric.hold_completions(rails.second_path(ends));
  for (int burst = 0; burst < 100; ++burst) {
    rails.write(ends.a, 4);
    for (int i = 0; i < 4; ++i) rails.devices.turn();
  }
  EXPECT_EQ(rails.sent("a0") + rails.sent("a1"), 400U);
  EXPECT_LE(rails.sent("a1"), 4U) << "it has not shown that it carries anything";
  EXPECT_LT(ends.a.done.size(), 400U) << "completions keep the order of the posts";
  rails.devices.fabric.release_completions(rails.second_path(ends));
  ASSERT_TRUE(rails.all_done(ends.a));
  EXPECT_THAT(ends.a.codes(), Each(Code::kOk));
}

TEST(VerbsRailsOnFake, ImmediatesOfBothRailsArriveOnceAndInTheOrderOfTheirRail) {
  Rails rails;
  const auto ends = rails.devices.link();
  rails.devices.fabric.hold_completions(rails.devices.fabric.peer_of(rails.second_path(ends)));
  rails.write(ends.a, 24, true);
  ASSERT_TRUE(rails.all_done(ends.a));  // done at the poster, half of it not told to the peer
  ASSERT_TRUE(rails.devices.until([&] { return ends.b.immediates.size() == 12; }));
  rails.devices.fabric.release_completions(rails.devices.fabric.peer_of(rails.second_path(ends)));
  ASSERT_TRUE(rails.devices.until([&] { return ends.b.immediates.size() == 24; }));
  for (std::size_t i = 0; i < 24; ++i)  // every other one went by the other rail
    EXPECT_EQ(ends.b.immediates[i].immediate, i < 12 ? 2 * i : 2 * (i - 12) + 1);
}

// The receiver never polls, the senders post whatever is accepted.
TEST(VerbsRailsOnFake, NoQueueOverflowsHoweverHardBothRailsArePushed) {
  Rails rails;
  FakeDevices& devices = rails.devices;
  std::vector<FakeDevices::Link> links;
  for (int i = 0; i < 8; ++i) links.push_back(devices.link());
  devices.polls[1] = false;
  for (int pass = 0; pass < 50; ++pass) {
    for (const auto& ends : links)
      while (ends.a.endpoint->send_free() >= 4) rails.write(ends.a, 4, true);
    devices.turn();
  }
  EXPECT_GT(devices.counter(0, "a0:1.credit_waits") + devices.counter(0, "a1:1.credit_waits"), 0U);
  devices.polls[1] = true;
  for (const auto& ends : links) {
    ASSERT_TRUE(rails.all_done(ends.a));
    ASSERT_TRUE(devices.until([&] { return ends.b.immediates.size() == ends.a.posted.size(); }));
    EXPECT_THAT(ends.a.codes(), Each(Code::kOk));
  }
  EXPECT_EQ(devices.fabric.ledger().lost, 0U);
  EXPECT_EQ(devices.fabric.ledger().rnr_waits, 0U) << "credits leave no room for it";
  EXPECT_GT(rails.sent("a1"), rails.sent("a0") / 2);
}

TEST(VerbsRailsOnFake, ARailThatFailsInTheMiddleEndsTheConnectionByNameAndTheOtherTakesOver) {
  Rails rails;
  FakeDevices& devices = rails.devices;
  const auto ends = devices.link();
  devices.fabric.fail_next(rails.second_path(ends), {IBV_WC_RETRY_EXC_ERR, 0xabc, true}, 3);
  rails.write(ends.a, 20, true);
  ASSERT_TRUE(devices.until([&] { return ends.a.disconnected && ends.b.disconnected; }));
  EXPECT_THAT(ends.a.endpoint->status().to_string(), HasSubstr("a1:1 reported RETRY_EXC_ERR"));
  EXPECT_THAT(ends.a.endpoint->status().peer(), HasSubstr("10.78.0.2"));
  const std::uint64_t before = rails.sent("a1");
  const auto again = devices.link();  // the failed rail is paused
  rails.write(again.a, 20, true);
  ASSERT_TRUE(rails.all_done(again.a));
  ASSERT_TRUE(devices.until([&] { return again.b.immediates.size() == 20; }));
  EXPECT_THAT(again.a.codes(), Each(Code::kOk));
  EXPECT_EQ(rails.sent("a1"), before);
}

TEST(VerbsRailsOnFake, AnOpenConnectionRegainsARailThatComesBack) {
  Rails rails;
  FakeDevices& devices = rails.devices;
  devices.fabric.set_port("b1", 1, false);  // the peer's: only dialling tells
  const auto ends = devices.link();
  rails.write(ends.a, 20);
  ASSERT_TRUE(rails.all_done(ends.a));
  EXPECT_EQ(rails.sent("a1"), 0U);
  devices.fabric.set_port("b1", 1, true);
  const std::size_t before = devices.fabric.live_queue_pairs().size();
  ASSERT_TRUE(
      devices.until([&] { return devices.fabric.live_queue_pairs().size() == before + 2; }));
  ASSERT_TRUE(devices.until([&] {
    rails.write(ends.a, 2);
    return rails.all_done(ends.a) && rails.sent("a1") > 0;
  }));
  EXPECT_FALSE(ends.a.disconnected);
}

TEST(VerbsRailsOnFake, APortThatComesBackIsUsedAtOnce) {
  Rails rails;
  FakeDevices& devices = rails.devices;
  devices.fabric.set_port("a1", 1, false);
  for (int i = 0; i < 100; ++i) devices.turn();
  const auto ends = devices.link();
  const std::size_t before = devices.fabric.live_queue_pairs().size();
  const TimeNs back_ns = devices.clock.now_ns();
  devices.fabric.set_port("a1", 1, true);
  ASSERT_TRUE(
      devices.until([&] { return devices.fabric.live_queue_pairs().size() == before + 2; }));
  EXPECT_LT(devices.clock.now_ns() - back_ns, kSecond) << "a probe found it";
  for (int i = 0; i < 100; ++i) devices.turn();
  rails.write(ends.a, 20);
  ASSERT_TRUE(rails.all_done(ends.a));
  EXPECT_EQ(rails.sent("a1"), 10U);
}

TEST(VerbsRailsOnFake, APortThatGoesDownEndsWhatUsedItAtBothEndsWithoutWaiting) {
  FakeDevices devices(FakeDevices::four_nics());
  const auto first = devices.link();
  const auto second = devices.link();  // its home is the other rail
  ASSERT_TRUE(devices.write(first.a, {1}).ok() && devices.write(second.a, {1}).ok());
  devices.fabric.set_port("a0", 1, false);
  // The peer, whose port is up, hears of it over the rail that still works.
  ASSERT_TRUE(devices.until([&] {
    return first.a.disconnected && second.a.disconnected && first.b.disconnected &&
           second.b.disconnected;
  }));
  EXPECT_THAT(first.a.endpoint->status().to_string(), HasSubstr("a0:1"));
  for (int i = 0; i < 3; ++i) devices.expect_alive(devices.link());
  EXPECT_EQ(devices.counter(0, "retry_errors") + devices.counter(1, "retry_errors"), 0U)
      << "found out by waiting";
}

TEST(VerbsRailsOnFake, ARailWithoutRoomForTheQueuePairIsDoneWithout) {
  FabricOptions options = FakeDevices::four_nics();
  options.nics[3].limits.max_qp = 0;
  Rails rails(options);
  const auto ends = rails.devices.link();
  rails.write(ends.a, 10, true);
  ASSERT_TRUE(rails.all_done(ends.a));
  EXPECT_THAT(ends.a.codes(), Each(Code::kOk));
  EXPECT_EQ(rails.sent("a0"), 10U);
}

TEST(VerbsRailsOnFake, ConnectionsWithTwoHomesMayFinishInAnyOrder) {
  FakeDevices devices(FakeDevices::four_nics());
  const auto first = devices.link();
  const auto second = devices.link();
  devices.fabric.hold_completions(first.a.qp);
  devices.fabric.hold_completions(second.b.qp);
  ASSERT_TRUE(devices.write(first.a, {1, 2}, true).ok());
  ASSERT_TRUE(devices.write(second.a, {3, 4}, true).ok());
  ASSERT_TRUE(
      devices.until([&] { return second.a.done.size() == 2 && first.b.immediates.size() == 2; }));
  EXPECT_TRUE(first.a.done.empty() && second.b.immediates.empty());
  devices.fabric.release_completions(second.b.qp);
  devices.fabric.release_completions(first.a.qp);
  EXPECT_TRUE(
      devices.until([&] { return first.a.done.size() == 2 && second.b.immediates.size() == 2; }));
}

}  // namespace
}  // namespace penstock::test

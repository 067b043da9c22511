// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The verbs provider when the NIC misbehaves: what soft-RoCE and real hardware do rarely or not at
// will.

#include <gmock/gmock.h>

#include <array>

#include "tests/transport/verbs_fake_support.h"
#include "transport/base/random.h"
#include "transport/verbs/cm.h"
#include "transport/verbs/greeting.h"

namespace penstock::test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Ne;
using verbs::Greeting;

// Receive an error on the third of six writes. Expect two done, the rest failed, a status that
// says what the NIC said, an end of this connection at both sides and nothing elsewhere.
void expect_contained(ibv_wc_status status, bool applied) {
  SCOPED_TRACE(status);
  FakeDevices devices;
  const auto ends = devices.link();
  const auto bystander = devices.link();
  devices.fabric.fail_next(ends.a.qp, {status, 0xabc, applied}, 2);
  ASSERT_TRUE(devices.write(ends.a, {1, 2, 3, 4, 5, 6}).ok());
  ASSERT_TRUE(devices.until([&] { return ends.a.disconnected && ends.b.disconnected; }));
  const std::vector<Code> codes = ends.a.codes();
  ASSERT_EQ(codes.size(), 6U);
  EXPECT_THAT(std::vector(codes.begin(), codes.begin() + 2), Each(Code::kOk));
  EXPECT_THAT(std::vector(codes.begin() + 2, codes.end()), Each(Ne(Code::kOk)));
  EXPECT_THAT(ends.a.endpoint->status().to_string(), HasSubstr("vendor code 0xabc"));
  EXPECT_THAT(ends.a.endpoint->status().what(),
              HasSubstr(devices.fabric.api().ibv_wc_status_str(status)));
  EXPECT_THAT(ends.a.endpoint->status().peer(), HasSubstr("10.77.0.2"));
  devices.expect_alive(bystander);
}

TEST(VerbsOnFake, EveryCompletionErrorEndsItsConnectionAlone) {
  for (int status = IBV_WC_LOC_LEN_ERR; status <= IBV_WC_GENERAL_ERR; ++status) {
    if (status == IBV_WC_WR_FLUSH_ERR) continue;  // never the first
    expect_contained(static_cast<ibv_wc_status>(status), status % 2 == 0);
  }
}

TEST(VerbsOnFake, AnErrorDoesNotSayWhetherThePeerHasTheBytes) {
  for (const bool applied : {false, true}) expect_contained(IBV_WC_RETRY_EXC_ERR, applied);
}

TEST(VerbsOnFake, LentBytesStayLentUntilTheNicIsDone) {
  FakeDevices devices;
  const auto ends = devices.link();
  devices.fabric.hold_completions(ends.a.qp);
  ASSERT_TRUE(devices.write(ends.a, {1, 2, 3}).ok());
  ends.a.endpoint->close();
  for (int i = 0; i < 200; ++i) devices.turn();
  EXPECT_TRUE(ends.a.done.empty());
  EXPECT_FALSE(ends.a.disconnected);
  devices.fabric.release_completions(ends.a.qp);
  EXPECT_TRUE(devices.until([&] { return ends.a.disconnected; }));
  EXPECT_EQ(ends.a.done.size(), 3U);
}

TEST(VerbsOnFake, AQueuePairThatIsLateHoldsUpNoOther) {
  FakeDevices devices;
  const auto late = devices.link();
  const auto other = devices.link();
  devices.fabric.hold_completions(late.a.qp);
  ASSERT_TRUE(devices.write(late.a, {1, 2, 3}, true).ok());
  for (std::uint64_t tag = 0; tag < 300; ++tag) {
    ASSERT_TRUE(devices.until([&] { return other.a.endpoint->send_free() > 0; }));
    ASSERT_TRUE(devices.write(other.a, {tag}, true).ok());
  }
  ASSERT_TRUE(devices.until([&] { return other.a.done.size() == 300; }));
  EXPECT_TRUE(late.a.done.empty());
  devices.fabric.release_completions(late.a.qp);
  ASSERT_TRUE(devices.until([&] { return late.a.done.size() == 3; }));
  EXPECT_THAT(late.a.codes(), Each(Code::kOk));
}

TEST(VerbsOnFake, ACompletionThatComesTwiceCountsOnce) {
  FakeDevices devices;
  const auto ends = devices.link();
  for (std::uint64_t tag = 0; tag < 50; ++tag) {
    devices.fabric.duplicate_next_send(ends.a.qp);
    devices.fabric.duplicate_next_receive(ends.b.qp);
    ASSERT_TRUE(devices.write(ends.a, {tag}, true).ok());
    ASSERT_TRUE(devices.until([&] { return ends.a.done.size() > tag; }));
    ASSERT_TRUE(devices.until([&] { return ends.b.immediates.size() > tag; }));
  }
  devices.expect_alive({ends.a, ends.b});
  EXPECT_EQ(ends.b.immediates.size(), 51U);
  EXPECT_GE(devices.counter(0, "stray_completions"), 50U);
  EXPECT_GE(devices.counter(1, "stray_completions"), 50U);
}

// The receiver never polls, the senders post whatever is accepted.
TEST(VerbsOnFake, NoQueueOverflowsHoweverHardItIsPushed) {
  FakeDevices devices;
  std::vector<FakeDevices::Link> links;
  for (int i = 0; i < 8; ++i) links.push_back(devices.link());
  devices.polls[1] = false;
  for (int pass = 0; pass < 50; ++pass) {
    for (const auto& ends : links) {
      while (ends.a.endpoint->send_free() >= 4)
        ASSERT_TRUE(devices.write(ends.a, {1, 2, 3, 4}, true).ok());
    }
    devices.turn();
  }
  EXPECT_GT(devices.counter(0, "credit_waits"), 0U);
  devices.polls[1] = true;
  for (const auto& ends : links) {
    ASSERT_TRUE(devices.until([&] { return ends.a.done.size() == ends.a.posted.size(); }));
    ASSERT_TRUE(devices.until([&] { return ends.b.immediates.size() == ends.a.posted.size(); }));
    EXPECT_THAT(ends.a.codes(), Each(Code::kOk));
  }
  EXPECT_EQ(devices.fabric.ledger().lost, 0U);
  EXPECT_EQ(devices.fabric.ledger().rnr_waits, 0U) << "credits leave no room for it";
}

TEST(VerbsOnFake, ACompletionQueueTooSmallIsRefusedInWords) {
  FabricOptions options = FakeDevices::two_nics();
  options.nics[0].limits.max_cqe = 100;
  FakeDevices devices(options);
  const auto endpoint =
      devices.device[0]->connect(*devices.queue[0], devices.device[1]->address(), {});
  ASSERT_FALSE(endpoint.ok());
  EXPECT_EQ(endpoint.status().code(), Code::kExhausted);
  EXPECT_THAT(endpoint.status().to_string(), HasSubstr("holds 100"));
}

TEST(VerbsOnFake, TooLittleLockableMemoryIsRefusedInWords) {
  FabricOptions options = FakeDevices::two_nics();
  options.nics[0].limits.memlock_bytes = 64 << 10;
  FakeDevices devices(options);
  std::vector<std::byte> big(64 << 10);
  const auto region =
      devices.device[0]->register_memory(big, MemoryKind::kHost, Access::kRemoteWrite);
  ASSERT_FALSE(region.ok());
  EXPECT_EQ(region.status().system_error(), ENOMEM);
  EXPECT_THAT(region.status().to_string(), HasSubstr("memlock"));
}

TEST(VerbsOnFake, APortThatGoesDownEndsItsConnectionsAtOnce) {
  FakeDevices devices;
  const auto ends = devices.link();
  devices.fabric.set_port("fake1", 1, false);
  ASSERT_TRUE(devices.write(ends.a, {1, 2}).ok());
  // The side whose port it is hears of it; the other waits for an answer until its timer ends.
  EXPECT_TRUE(devices.until([&] { return ends.b.disconnected; }));
  EXPECT_EQ(ends.b.endpoint->status().code(), Code::kConnectionLost);
  EXPECT_THAT(ends.b.endpoint->status().to_string(), HasSubstr("fake1:1"));
  devices.fabric.expire_timers();
  EXPECT_TRUE(devices.until([&] { return ends.a.disconnected; }));
  EXPECT_EQ(ends.a.endpoint->status().code(), Code::kConnectionLost);
  devices.fabric.set_port("fake1", 1, true);
  devices.expect_alive(devices.link());
}

TEST(VerbsOnFake, APostersPortThatGoesDownFailsItsPostsWithoutWaiting) {
  FakeDevices devices;
  const auto ends = devices.link();
  devices.fabric.silence(ends.b.qp);
  ASSERT_TRUE(devices.write(ends.a, {1, 2}).ok());
  devices.fabric.set_port("fake0", 1, false);
  EXPECT_TRUE(devices.until([&] { return ends.a.disconnected; }));
  EXPECT_THAT(ends.a.codes(), ElementsAre(Code::kConnectionLost, Code::kConnectionLost));
  EXPECT_THAT(ends.a.endpoint->status().to_string(), HasSubstr("fake0:1"));
}

TEST(VerbsOnFake, CreditsThatCannotBeReturnedEndTheConnection) {
  FakeDevices devices;
  const auto ends = devices.link();
  devices.fabric.fail_next(ends.b.qp, {IBV_WC_GENERAL_ERR, 0x77, false});
  for (std::uint64_t tag = 0; tag < 200 && !ends.a.disconnected; ++tag) {
    (void)devices.write(ends.a, {tag}, true);
    devices.turn();
  }
  EXPECT_TRUE(devices.until([&] { return ends.a.disconnected && ends.b.disconnected; }));
  EXPECT_THAT(ends.b.endpoint->status().to_string(), HasSubstr("vendor code 0x77"));
}

TEST(VerbsOnFake, ADeadPeerIsLostWithinTheTimersOfTheNic) {
  FakeDevices devices;
  const auto ends = devices.link();
  devices.fabric.silence_nic("fake1");
  ASSERT_TRUE(devices.write(ends.a, {1, 2}).ok());
  for (int i = 0; i < 100; ++i) devices.turn();
  EXPECT_FALSE(ends.a.disconnected) << "it may still answer";
  EXPECT_LT(devices.fabric.next_timer_ns() - devices.clock.now_ns(), kSecond);
  devices.fabric.expire_timers();
  EXPECT_TRUE(devices.until([&] { return ends.a.disconnected; }));
  EXPECT_THAT(ends.a.codes(), Each(Code::kConnectionLost));
  EXPECT_EQ(devices.counter(0, "retry_errors"), 1U);
}

TEST(VerbsOnFake, ADeviceThatDisappearsEndsEverythingOnIt) {
  FakeDevices devices;
  const auto first = devices.link();
  const auto second = devices.link();
  ASSERT_TRUE(devices.write(first.b, {1}).ok());
  devices.fabric.remove_nic("fake1");
  EXPECT_TRUE(devices.until([&] { return first.b.disconnected && second.b.disconnected; }));
  EXPECT_THAT(second.b.endpoint->status().to_string(), HasSubstr("fake1"));
  const auto more = devices.device[1]->connect(*devices.queue[1], devices.device[0]->address(), {});
  EXPECT_FALSE(more.ok());
}

TEST(VerbsOnFake, AFatalQueuePairEventEndsItsConnection) {
  FakeDevices devices;
  const auto ends = devices.link();
  const auto bystander = devices.link();
  devices.fabric.raise_qp_event(ends.b.qp, IBV_EVENT_QP_FATAL);
  EXPECT_TRUE(devices.until([&] { return ends.b.disconnected && ends.a.disconnected; }));
  EXPECT_THAT(ends.b.endpoint->status().to_string(), HasSubstr("catastrophic"));
  devices.expect_alive(bystander);
}

TEST(VerbsOnFake, ABurstRingsOnceAndRegistersNothing) {
  FakeDevices devices;
  const auto ends = devices.link();
  devices.expect_alive(ends);
  const FakeLedger before = devices.fabric.ledger();
  ASSERT_TRUE(devices.write(ends.a, {1, 2, 3, 4, 5, 6, 7, 8}).ok());
  ASSERT_TRUE(devices.until([&] { return ends.a.done.size() == ends.a.posted.size(); }));
  const FakeLedger after = devices.fabric.ledger();
  EXPECT_EQ(after.doorbells - before.doorbells, 1U);
  EXPECT_EQ(after.sends - before.sends, 8U);
  EXPECT_EQ(after.signalled - before.signalled, 1U);
  EXPECT_EQ(after.registrations, before.registrations);
}

// --- Strangers.

// Everything one stranger can send, from the listening side's view of it.
std::vector<std::byte> garbage(SeededRandom& random) {
  std::vector<std::byte> bytes(random.below(57));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(256));
  if (bytes.size() < 50 || random.chance(500'000)) return bytes;
  Greeting greeting;  // a well-formed one, of nobody
  greeting.domain = static_cast<std::uint8_t>(random.below(3));
  greeting.first = random.chance(500'000);
  greeting.token = random_token();
  greeting.incarnation = 7;
  greeting.window = 1;
  const auto encoded = encode(greeting);
  std::copy(encoded.begin(), encoded.end(), bytes.begin());
  return bytes;
}

TEST(VerbsOnFake, StrangersAreRefusedBeforeAQueuePairIsMade) {
  FakeDevices devices;
  const auto ends = devices.link();
  const verbs::VerbsApi& api = devices.fabric.api();
  const std::size_t queue_pairs = devices.fabric.live_queue_pairs().size();
  rdma_event_channel* channel = api.rdma_create_event_channel();
  auto target = verbs::parse_device_address(devices.device[1]->address()).value().front();
  SeededRandom random(0x5eed);
  for (int i = 0; i < 1'000; ++i) {
    rdma_cm_id* id = nullptr;
    ASSERT_EQ(api.rdma_create_id(channel, &id, nullptr, RDMA_PS_TCP), 0);
    ASSERT_EQ(api.rdma_resolve_addr(id, nullptr, target.get(), 1000), 0);
    const std::vector<std::byte> bytes = garbage(random);
    for (const rdma_cm_event_type expected :
         {RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_ROUTE_RESOLVED, RDMA_CM_EVENT_REJECTED}) {
      if (expected == RDMA_CM_EVENT_REJECTED) devices.device[1]->progress();
      rdma_cm_event* event = nullptr;
      ASSERT_EQ(api.rdma_get_cm_event(channel, &event), 0);
      ASSERT_EQ(event->event, expected);
      ASSERT_EQ(api.rdma_ack_cm_event(event), 0);
      rdma_conn_param parameters{};
      parameters.private_data = bytes.data();
      parameters.private_data_len = static_cast<std::uint8_t>(bytes.size());
      if (expected == RDMA_CM_EVENT_ADDR_RESOLVED) {
        ASSERT_EQ(api.rdma_resolve_route(id, 1000), 0);
      } else if (expected == RDMA_CM_EVENT_ROUTE_RESOLVED) {
        ASSERT_EQ(api.rdma_connect(id, &parameters), 0);
      }
    }
    ASSERT_EQ(api.rdma_destroy_id(id), 0);
  }
  api.rdma_destroy_event_channel(channel);
  EXPECT_EQ(devices.fabric.live_queue_pairs().size(), queue_pairs);
  devices.expect_alive(ends);
}

// --- Set-up that fails half-way.

TEST(VerbsOnFake, TheWayToAPortThatIsDownIsNotFound) {
  FakeDevices devices;
  devices.fabric.set_port("fake1", 1, false);
  FakeEnd& end = devices.ends.emplace_back();
  end.endpoint =
      devices.device[0]->connect(*devices.queue[0], devices.device[1]->address(), {}).value();
  ASSERT_TRUE(devices.until([&] { return end.disconnected; }));
  EXPECT_EQ(end.endpoint->status().code(), Code::kConnectionLost);
  EXPECT_THAT(end.endpoint->status().to_string(), HasSubstr("ADDR_ERROR"));
}

TEST(VerbsOnFake, ARegistrationThatFailsWhileConnectingIsNamed) {
  FakeDevices devices;
  devices.fabric.fail_registrations(ENOMEM);
  const auto endpoint =
      devices.device[0]->connect(*devices.queue[0], devices.device[1]->address(), {});
  ASSERT_FALSE(endpoint.ok());
  EXPECT_EQ(endpoint.status().system_error(), ENOMEM);
  devices.expect_alive(devices.link());
}

TEST(VerbsOnFake, ANicOutOfQueuePairsRefusesOneAndKeepsTheRest) {
  FabricOptions options = FakeDevices::two_nics();
  options.nics[0].limits.max_qp = 2;
  FakeDevices devices(options);
  const auto first = devices.link();
  const auto second = devices.link();
  FakeEnd& end = devices.ends.emplace_back();
  EndpointOptions third;
  third.id = 4;
  end.id = third.id;
  end.endpoint =
      devices.device[0]->connect(*devices.queue[0], devices.device[1]->address(), third).value();
  ASSERT_TRUE(devices.until([&] { return end.disconnected; }));
  EXPECT_EQ(end.endpoint->status().code(), Code::kExhausted);
  EXPECT_EQ(end.endpoint->status().system_error(), ENOMEM);
  devices.expect_alive(first);
  devices.expect_alive(second);
}

}  // namespace
}  // namespace penstock::test

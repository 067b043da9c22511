// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The connection manager and the script of the fake NIC.

#include <gmock/gmock.h>

#include "tests/transport/fake_nic_support.h"

namespace penstock::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

PairOptions two_nics() {
  PairOptions options;
  options.fabric.nics = {{"fake0", {{"10.77.0.1"}}}, {"fake1", {{"10.77.0.2"}}}};
  return options;
}

// An id that has found its way to `ip`:`port`, or the event that says why not.
CmEvent resolve(Pair& pair, rdma_cm_id*& id, const char* ip, std::uint16_t port) {
  EXPECT_EQ(pair.api.rdma_create_id(pair.events, &id, nullptr, RDMA_PS_TCP), 0);
  sockaddr_in to = address(ip, port);
  EXPECT_EQ(pair.api.rdma_resolve_addr(id, nullptr, reinterpret_cast<sockaddr*>(&to), 1000), 0);
  CmEvent event = pair.event();
  if (event.type != RDMA_CM_EVENT_ADDR_RESOLVED) return event;
  EXPECT_EQ(pair.api.rdma_resolve_route(id, 1000), 0);
  return pair.event();
}

TEST(FakeNicCm, PrivateDataArrivesPaddedAndIsLimited) {
  Pair pair;
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(resolve(pair, id, "10.77.0.1", 7000).type, RDMA_CM_EVENT_ROUTE_RESOLVED);
  const std::array<std::uint8_t, 57> words{1, 2, 3};
  rdma_conn_param parameters{};
  parameters.private_data = words.data();
  parameters.private_data_len = 57;
  EXPECT_EQ(pair.api.rdma_connect(id, &parameters), -1);
  EXPECT_EQ(errno, EINVAL);
  parameters.private_data_len = 3;
  EXPECT_EQ(pair.api.rdma_connect(id, &parameters), 0);
  const CmEvent request = pair.event();
  EXPECT_EQ(request.type, RDMA_CM_EVENT_CONNECT_REQUEST);
  EXPECT_EQ(request.bytes.size(), 56U);
  EXPECT_EQ(request.bytes[2], 3);
  EXPECT_EQ(request.bytes[3], 0);
  EXPECT_EQ(pair.api.rdma_reject(request.id, "no", 2), 0);
  const CmEvent rejected = pair.event();
  EXPECT_EQ(rejected.type, RDMA_CM_EVENT_REJECTED);
  EXPECT_EQ(rejected.status, 28);
  EXPECT_EQ(rejected.bytes.at(0), 'n');
  EXPECT_EQ(pair.api.rdma_destroy_id(request.id), 0);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
}

TEST(FakeNicCm, NobodyListensNobodyIsThere) {
  Pair pair;
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(resolve(pair, id, "10.77.0.1", 7001).type, RDMA_CM_EVENT_ROUTE_RESOLVED);
  rdma_conn_param parameters{};
  EXPECT_EQ(pair.api.rdma_connect(id, &parameters), 0);
  const CmEvent rejected = pair.event();
  EXPECT_EQ(rejected.type, RDMA_CM_EVENT_REJECTED);
  EXPECT_EQ(rejected.status, 8);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
  EXPECT_EQ(resolve(pair, id, "10.77.0.99", 7000).type, RDMA_CM_EVENT_ADDR_ERROR);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
}

TEST(FakeNicCm, APortThatIsDownCannotBeReached) {
  Pair pair(two_nics());
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(resolve(pair, id, "10.77.0.2", 7000).type, RDMA_CM_EVENT_ROUTE_RESOLVED);
  pair.fabric.set_port("fake1", 1, false);
  rdma_conn_param parameters{};
  EXPECT_EQ(pair.api.rdma_connect(id, &parameters), 0);
  const CmEvent lost = pair.event();
  EXPECT_EQ(lost.type, RDMA_CM_EVENT_UNREACHABLE);
  EXPECT_EQ(lost.status, -ETIMEDOUT);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
  EXPECT_EQ(resolve(pair, id, "10.77.0.2", 7000).type, RDMA_CM_EVENT_ADDR_ERROR);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
}

TEST(FakeNicCm, BindingChecksAddressAndPort) {
  Pair pair;
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(pair.api.rdma_create_id(pair.events, &id, nullptr, RDMA_PS_TCP), 0);
  sockaddr_in foreign = address("10.99.0.1");
  EXPECT_EQ(pair.api.rdma_bind_addr(id, reinterpret_cast<sockaddr*>(&foreign)), -1);
  EXPECT_EQ(errno, ENODEV);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
  ASSERT_EQ(pair.api.rdma_create_id(pair.events, &id, nullptr, RDMA_PS_TCP), 0);
  sockaddr_in used = address("10.77.0.1", 7000);
  EXPECT_EQ(pair.api.rdma_bind_addr(id, reinterpret_cast<sockaddr*>(&used)), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
  ASSERT_EQ(pair.api.rdma_create_id(pair.events, &id, nullptr, RDMA_PS_TCP), 0);
  sockaddr_in any = address("10.77.0.1");
  EXPECT_EQ(pair.api.rdma_bind_addr(id, reinterpret_cast<sockaddr*>(&any)), 0);
  EXPECT_NE(pair.api.rdma_get_src_port(id), 0);
  EXPECT_NE(id->verbs, nullptr);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
}

TEST(FakeNicCm, ADomainOfAnotherContextIsRefused) {
  Pair pair;
  ibv_device** list = pair.api.ibv_get_device_list(nullptr);
  ibv_context* own = pair.api.ibv_open_device(list[0]);
  pair.api.ibv_free_device_list(list);
  ASSERT_NE(own, pair.a.id->verbs) << "librdmacm has its own";
  ibv_pd* pd = pair.api.ibv_alloc_pd(own);
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(resolve(pair, id, "10.77.0.1", 7000).type, RDMA_CM_EVENT_ROUTE_RESOLVED);
  ibv_qp_init_attr attr{};
  attr.send_cq = attr.recv_cq = pair.a.sends;
  attr.cap = {1, 1, 1, 1, 0};
  attr.qp_type = IBV_QPT_RC;
  EXPECT_EQ(pair.api.rdma_create_qp(id, pd, &attr), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
  EXPECT_EQ(pair.api.ibv_dealloc_pd(pd), 0);
  EXPECT_EQ(pair.api.ibv_close_device(own), 0);
}

TEST(FakeNicCm, DisconnectingFlushesHereAndTellsThePeerOnly) {
  Pair pair;
  ASSERT_EQ(pair.receive(pair.a, 1), 0);
  ASSERT_EQ(pair.api.rdma_disconnect(pair.a.id), 0);
  EXPECT_THAT(pair.statuses(pair.a.receives), ElementsAre(IBV_WC_WR_FLUSH_ERR));
  EXPECT_EQ(pair.event().id, pair.b.id);
  EXPECT_EQ(pair.event().id, pair.a.id);
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_RTS) << "until it disconnects too";
  ASSERT_EQ(pair.api.rdma_disconnect(pair.b.id), 0);
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_ERR);
}

TEST(FakeNicCm, DestroyingAnIdBeforeItsQueuePairIsAViolation) {
  Pair pair;
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(resolve(pair, id, "10.77.0.1", 7000).type, RDMA_CM_EVENT_ROUTE_RESOLVED);
  ibv_qp_init_attr attr{};
  attr.send_cq = attr.recv_cq = pair.a.sends;
  attr.cap = {1, 1, 1, 1, 0};
  attr.qp_type = IBV_QPT_RC;
  ASSERT_EQ(pair.api.rdma_create_qp(id, pair.a.pd, &attr), 0);
  EXPECT_EQ(pair.api.rdma_destroy_id(id), 0);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("destroyed before its qp"));
  // The real library would have lost it; here it can still be taken back.
  pair.api.rdma_destroy_qp(id);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("after its destruction"));
  EXPECT_EQ(id->qp, nullptr);
}

// --- The script.

TEST(FakeNicScript, AFailureMayHaveBeenApplied) {
  for (const bool applied : {false, true}) {
    Pair pair;
    pair.a.bytes[0] = std::byte{1};
    pair.fabric.fail_next(pair.a.number(), {IBV_WC_RETRY_EXC_ERR, 0x42, applied}, 1);
    for (std::uint64_t i = 0; i < 3; ++i) {
      pair.a.bytes[0] = std::byte(i + 1);
      ASSERT_EQ(pair.write(pair.a, pair.b, i), 0);
    }
    const auto done = pair.poll(pair.a.sends);
    ASSERT_EQ(done.size(), 3U);
    EXPECT_EQ(done[0].status, IBV_WC_SUCCESS);
    EXPECT_EQ(done[1].status, IBV_WC_RETRY_EXC_ERR);
    EXPECT_EQ(done[1].vendor_err, 0x42U);
    EXPECT_EQ(done[2].status, IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(pair.b.bytes[0], std::byte(applied ? 2 : 1));
  }
}

TEST(FakeNicScript, HeldCompletionsComeLateAndOneComesTwice) {
  Pair pair;
  pair.fabric.hold_completions(pair.a.number());
  pair.fabric.duplicate_next_send(pair.a.number());
  ASSERT_EQ(pair.write(pair.a, pair.b, 1), 0);
  ASSERT_EQ(pair.write(pair.a, pair.b, 2), 0);
  EXPECT_TRUE(pair.poll(pair.a.sends).empty());
  pair.fabric.release_completions(pair.a.number());
  std::vector<std::uint64_t> ids;
  for (const ibv_wc& wc : pair.poll(pair.a.sends)) ids.push_back(wc.wr_id);
  EXPECT_THAT(ids, ElementsAre(1, 1, 2));
}

TEST(FakeNicScript, ALinkThatComesBackInTimeLosesNothing) {
  Pair pair(two_nics());
  pair.fabric.set_port("fake1", 1, false);
  ASSERT_EQ(pair.write(pair.a, pair.b, 1), 0);
  EXPECT_TRUE(pair.poll(pair.a.sends).empty());
  pair.fabric.set_port("fake1", 1, true);
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_SUCCESS));
  for (const ibv_event_type type : {IBV_EVENT_PORT_ERR, IBV_EVENT_PORT_ACTIVE}) {
    ibv_async_event event{};
    ASSERT_EQ(pair.api.ibv_get_async_event(pair.b.id->verbs, &event), 0);
    EXPECT_EQ(event.event_type, type);
    pair.api.ibv_ack_async_event(&event);
  }
}

TEST(FakeNicScript, ADeadPeerTimesOutAndTheRestIsFlushed) {
  Pair pair(two_nics());
  pair.fabric.silence_nic("fake1");
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(pair.write(pair.a, pair.b, i), 0);
  EXPECT_LT(pair.fabric.next_timer_ns(), kNever);
  pair.fabric.expire_timers();
  EXPECT_THAT(pair.statuses(pair.a.sends),
              ElementsAre(IBV_WC_RETRY_EXC_ERR, IBV_WC_WR_FLUSH_ERR, IBV_WC_WR_FLUSH_ERR));
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_RTS) << "the receiver learns nothing";
}

TEST(FakeNicScript, TimersRunOnTheClock) {
  PairOptions options = two_nics();
  options.connection.retry_count = 0;
  Pair pair(options);
  ibv_qp_attr attr{};
  ibv_qp_init_attr init{};
  ASSERT_EQ(pair.api.ibv_query_qp(pair.a.qp(), &attr, 0, &init), 0);
  EXPECT_EQ(attr.timeout, 18) << "the kernel's; a second and more";
  EXPECT_EQ(attr.min_rnr_timer, 0) << "655 ms";
  pair.fabric.silence(pair.a.number());
  ASSERT_EQ(pair.write(pair.a, pair.b, 1), 0);
  const TimeNs left_ns = pair.fabric.next_timer_ns() - pair.clock.now_ns();
  EXPECT_LE(left_ns, TimeNs{4096} << 18);
  EXPECT_GT(left_ns, 0);
}

TEST(FakeNicScript, ARemovedDeviceFailsEverythingOnIt) {
  Pair pair(two_nics());
  pair.fabric.remove_nic("fake1");
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_ERR);
  ibv_async_event event{};
  ASSERT_EQ(pair.api.ibv_get_async_event(pair.b.id->verbs, &event), 0);
  EXPECT_EQ(event.event_type, IBV_EVENT_DEVICE_FATAL);
  pair.api.ibv_ack_async_event(&event);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(pair.event().type, RDMA_CM_EVENT_DEVICE_REMOVAL);
}

// The wr_ids that came out of a's queue, then b's, in the order of their delivery.
std::vector<std::uint64_t> order_of(std::uint64_t seed) {
  PairOptions options;
  options.fabric.mode = FakeMode::kStepped;
  options.fabric.seed = seed;
  Pair pair(options);
  for (std::uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(pair.write(pair.a, pair.b, i), 0);
    EXPECT_EQ(pair.write(pair.b, pair.a, 100 + i), 0);
  }
  std::vector<std::uint64_t> order;
  while (pair.fabric.step()) {
    for (const Side* side : {&pair.a, &pair.b}) {
      for (const ibv_wc& wc : pair.poll(side->sends)) order.push_back(wc.wr_id);
    }
  }
  return order;
}

TEST(FakeNicScript, TheSeedDecidesTheOrderBetweenQueuePairsAndNeverWithinOne) {
  const std::vector<std::uint64_t> first = order_of(1);
  EXPECT_EQ(first.size(), 16U);
  EXPECT_EQ(order_of(1), first);
  bool differs = false;
  for (std::uint64_t seed = 2; seed < 6; ++seed) differs = differs || order_of(seed) != first;
  EXPECT_TRUE(differs);
  for (const std::uint64_t base : {0U, 100U}) {
    std::vector<std::uint64_t> own;
    for (const std::uint64_t id : first) {
      if (id / 100 * 100 == base) own.push_back(id - base);
    }
    EXPECT_THAT(own, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  }
}

}  // namespace
}  // namespace penstock::test

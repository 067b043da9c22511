// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Queues and their limits, as raw verbs programs meet them on the fake NIC.

#include <gmock/gmock.h>

#include "tests/transport/fake_nic_support.h"

namespace penstock::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr unsigned kUnsignalled = 0;

TEST(FakeNic, WritesAndTellsBothEnds) {
  Pair pair;
  pair.a.bytes[0] = std::byte{42};
  ASSERT_EQ(pair.receive(pair.b, 5), 0);
  ibv_sge sge = pair.a.sge(100);
  ibv_send_wr wr{};
  wr.wr_id = 9;
  wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.imm_data = htonl(0x01020304);
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.wr.rdma = {pair.b.at(), pair.b.mr->rkey};
  ASSERT_EQ(pair.post(pair.a, wr), 0);
  EXPECT_EQ(pair.b.bytes[0], std::byte{42});

  const auto sent = pair.poll(pair.a.sends);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].wr_id, 9U);
  EXPECT_EQ(sent[0].opcode, IBV_WC_RDMA_WRITE);
  const auto received = pair.poll(pair.b.receives);
  ASSERT_EQ(received.size(), 1U);
  EXPECT_EQ(received[0].wr_id, 5U);
  EXPECT_EQ(received[0].opcode, IBV_WC_RECV_RDMA_WITH_IMM);
  EXPECT_EQ(received[0].byte_len, 100U);
  EXPECT_EQ(received[0].imm_data, htonl(0x01020304)) << "in network byte order";
}

TEST(FakeNic, RefusesAPostIntoAFullSendQueue) {
  Pair pair;
  for (std::uint64_t i = 0; i < 16; ++i) ASSERT_EQ(pair.write(pair.a, pair.b, i), 0);
  EXPECT_EQ(pair.write(pair.a, pair.b, 16), ENOMEM);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("send queue of 16 full"));
  // All are done; what frees the slots is that their completions are polled.
  EXPECT_EQ(pair.poll(pair.a.sends).size(), 16U);
  EXPECT_EQ(pair.write(pair.a, pair.b, 17), 0);
}

TEST(FakeNic, FreesUnsignalledSlotsOnlyByALaterSignalledCompletion) {
  Pair pair;
  for (std::uint64_t i = 0; i < 16; ++i) ASSERT_EQ(pair.write(pair.a, pair.b, i, kUnsignalled), 0);
  EXPECT_TRUE(pair.poll(pair.a.sends).empty());
  EXPECT_EQ(pair.write(pair.a, pair.b, 16), ENOMEM) << "stuck for ever, as on mlx5";
  (void)pair.fabric.take_violations();
}

TEST(FakeNic, OneSignalledCompletionFreesAllBeforeIt) {
  Pair pair;
  for (std::uint64_t i = 0; i < 15; ++i) ASSERT_EQ(pair.write(pair.a, pair.b, i, kUnsignalled), 0);
  ASSERT_EQ(pair.write(pair.a, pair.b, 15), 0);
  EXPECT_EQ(pair.poll(pair.a.sends).size(), 1U);
  for (std::uint64_t i = 0; i < 16; ++i) EXPECT_EQ(pair.write(pair.a, pair.b, i, kUnsignalled), 0);
}

TEST(FakeNic, AcceptsAChainUpToTheFirstThatDoesNotFit) {
  Pair pair;
  std::array<ibv_send_wr, 20> chain{};
  for (std::size_t i = 0; i < chain.size(); ++i) {
    chain[i].wr_id = i;
    chain[i].opcode = IBV_WR_RDMA_WRITE;
    chain[i].send_flags = IBV_SEND_SIGNALED;
    chain[i].next = i + 1 < chain.size() ? &chain[i + 1] : nullptr;
  }
  ibv_send_wr* bad = nullptr;
  EXPECT_EQ(ibv_post_send(pair.a.qp(), chain.data(), &bad), ENOMEM);
  EXPECT_EQ(bad, &chain[16]);
  EXPECT_EQ(pair.poll(pair.a.sends).size(), 16U);
  EXPECT_EQ(pair.fabric.ledger().doorbells, 1U);
  EXPECT_EQ(pair.fabric.ledger().sends, 16U);
  (void)pair.fabric.take_violations();
}

TEST(FakeNic, RefusesTooMuchInlineAndTooManyPieces) {
  Pair pair;
  EXPECT_EQ(pair.write(pair.a, pair.b, 1, IBV_SEND_INLINE, 65), ENOMEM);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("65 bytes inline, 64 allowed"));
  std::array<ibv_sge, 5> sges{};
  ibv_send_wr wr{};
  wr.opcode = IBV_WR_RDMA_WRITE;
  wr.sg_list = sges.data();
  wr.num_sge = 5;
  EXPECT_EQ(pair.post(pair.a, wr), ENOMEM);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("5 pieces, 4 allowed"));
}

TEST(FakeNic, CopiesInlineBytesWhenTheyArePosted) {
  PairOptions options;
  options.fabric.mode = FakeMode::kStepped;
  Pair pair(options);
  pair.a.bytes[0] = std::byte{1};
  ASSERT_EQ(pair.write(pair.a, pair.b, 1, IBV_SEND_INLINE | IBV_SEND_SIGNALED), 0);
  ASSERT_EQ(pair.write(pair.a, pair.b, 2, IBV_SEND_SIGNALED, 1), 0);
  pair.a.bytes[0] = std::byte{2};
  while (pair.b.bytes[0] == std::byte{0}) ASSERT_TRUE(pair.fabric.step());
  EXPECT_EQ(pair.b.bytes[0], std::byte{1});
  pair.drain();
  EXPECT_EQ(pair.b.bytes[0], std::byte{2}) << "the other was read late: its bytes were lent";
  EXPECT_EQ(pair.poll(pair.a.sends).size(), 2U);
}

TEST(FakeNic, AFullSharedReceiveQueueRefusesMore) {
  PairOptions options;
  options.srq_wr = 4;
  Pair pair(options);
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_EQ(pair.receive(pair.b, i), 0);
  EXPECT_EQ(pair.receive(pair.b, 4), ENOMEM);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("queue of 4 full"));
  EXPECT_EQ(pair.write_immediate(pair.a, 1, 7), 0);
  EXPECT_EQ(pair.receive(pair.b, 4), 0);
  EXPECT_EQ(pair.poll(pair.b.receives).size(), 1U);
}

TEST(FakeNic, ACompletionQueueThatOverflowsLosesAndTells) {
  PairOptions options;
  options.cqe = 4;
  Pair pair(options);
  for (std::uint64_t i = 0; i < 6; ++i) ASSERT_EQ(pair.write(pair.a, pair.b, i), 0);
  EXPECT_EQ(pair.poll(pair.a.sends).size(), 4U);
  EXPECT_EQ(pair.fabric.ledger().lost, 2U);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("found its cq of 4 full and is lost"));
  EXPECT_EQ(pair.fabric.state_of(pair.a.number()), IBV_QPS_RTS) << "silent, as on soft-RoCE";
  for (int i = 0; i < 2; ++i) {
    ibv_async_event event{};
    ASSERT_EQ(pair.api.ibv_get_async_event(pair.a.id->verbs, &event), 0);
    EXPECT_EQ(event.event_type, IBV_EVENT_CQ_ERR);
    EXPECT_EQ(event.element.cq, pair.a.sends);
    pair.api.ibv_ack_async_event(&event);
  }
}

TEST(FakeNic, ArmingWakesForTheNextCompletionAlone) {
  Pair pair;
  ibv_cq* cq = nullptr;
  void* user = nullptr;
  ASSERT_EQ(pair.write(pair.a, pair.b, 1), 0);
  // Armed after the completion came: nobody is woken for it.
  ASSERT_EQ(ibv_req_notify_cq(pair.a.sends, 0), 0);
  EXPECT_EQ(pair.api.ibv_get_cq_event(pair.a.channel, &cq, &user), -1);
  EXPECT_EQ(errno, EAGAIN);
  ASSERT_EQ(pair.write(pair.a, pair.b, 2), 0);
  ASSERT_EQ(pair.write(pair.a, pair.b, 3), 0);
  EXPECT_EQ(pair.fabric.ledger().wakeups, 1U) << "one for each arming";
  ASSERT_EQ(pair.api.ibv_get_cq_event(pair.a.channel, &cq, &user), 0);
  EXPECT_EQ(cq, pair.a.sends);
  EXPECT_EQ(user, &pair.a);
  pair.api.ibv_ack_cq_events(cq, 1);
}

TEST(FakeNic, SolicitedArmingWaitsForTheFlag) {
  Pair pair;
  for (std::uint64_t i = 0; i < 2; ++i) ASSERT_EQ(pair.receive(pair.b, i), 0);
  ASSERT_EQ(ibv_req_notify_cq(pair.b.receives, 1), 0);
  ASSERT_EQ(pair.write_immediate(pair.a, 1, 1), 0);
  EXPECT_EQ(pair.fabric.ledger().wakeups, 0U);
  ibv_send_wr wr{};
  wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  wr.send_flags = IBV_SEND_SOLICITED;
  ASSERT_EQ(pair.post(pair.a, wr), 0);
  EXPECT_EQ(pair.fabric.ledger().wakeups, 1U);
}

TEST(FakeNic, NamesWhatIsDestroyedTooEarlyOrTwice) {
  Pair pair;
  EXPECT_EQ(pair.api.ibv_dealloc_pd(pair.a.pd), EBUSY);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("a pd was destroyed before"));
  EXPECT_THAT(pair.fabric.leaks(), HasSubstr("2 qp"));
  ibv_cq* cq = pair.api.ibv_create_cq(pair.a.id->verbs, 1, nullptr, nullptr, 0);
  EXPECT_EQ(pair.api.ibv_destroy_cq(cq), 0);
  EXPECT_EQ(pair.api.ibv_destroy_cq(cq), EINVAL);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("ibv_destroy_cq of a cq after its destr"));
}

TEST(FakeNic, ALostEventAcknowledgementIsAViolation) {
  Pair pair;
  ibv_cq* cq = pair.api.ibv_create_cq(pair.a.id->verbs, 1, nullptr, pair.a.channel, 0);
  EXPECT_EQ(ibv_req_notify_cq(pair.a.sends, 0), 0);
  EXPECT_EQ(pair.write(pair.a, pair.b, 1), 0);
  ibv_cq* ready = nullptr;
  void* user = nullptr;
  EXPECT_EQ(pair.api.ibv_get_cq_event(pair.a.channel, &ready, &user), 0);
  pair.api.ibv_ack_cq_events(ready, 2);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("more cq events acknowledged"));
  EXPECT_EQ(pair.api.ibv_destroy_cq(cq), 0);
}

TEST(FakeNic, HoldsItsDevicesLimits) {
  PairOptions options;
  options.fabric.nics[0].limits.max_cqe = 100;
  options.fabric.nics[0].limits.max_srq_wr = 50;
  Pair pair(options);
  ibv_device_attr attr{};
  ASSERT_EQ(pair.api.ibv_query_device(pair.a.id->verbs, &attr), 0);
  EXPECT_EQ(attr.max_cqe, 100);
  EXPECT_EQ(pair.api.ibv_create_cq(pair.a.id->verbs, 101, nullptr, nullptr, 0), nullptr);
  EXPECT_EQ(errno, EINVAL);
  ibv_srq_init_attr srq{nullptr, {51, 1, 0}};
  EXPECT_EQ(pair.api.ibv_create_srq(pair.a.pd, &srq), nullptr);
}

TEST(FakeNic, ListsDevicesPortsAndAddresses) {
  const SystemClock clock;
  FabricOptions options;
  options.nics = {{"x0", {{"10.0.0.1"}, {.ip = "10.0.1.1", .active = false}}},
                  {"x1", {{.ip = "10.0.0.2", .has_gid = false}}}};
  FakeFabric fabric(clock, options);
  const verbs::VerbsApi& api = fabric.api();
  int count = 0;
  ibv_device** list = api.ibv_get_device_list(&count);
  ASSERT_EQ(count, 2);
  EXPECT_STREQ(api.ibv_get_device_name(list[1]), "x1");
  ibv_context* first = api.ibv_open_device(list[0]);
  ibv_context* second = api.ibv_open_device(list[1]);
  api.ibv_free_device_list(list);
  ibv_port_attr port{};
  EXPECT_EQ(api.ibv_query_port(first, 2, &port), 0);
  EXPECT_EQ(port.state, IBV_PORT_DOWN);
  EXPECT_EQ(api.ibv_query_port(first, 3, &port), EINVAL);
  ibv_gid gid{};
  EXPECT_EQ(api.ibv_query_gid(first, 1, 1, &gid), 0);
  EXPECT_THAT(std::vector<int>(gid.raw + 10, gid.raw + 16), ElementsAre(255, 255, 10, 0, 0, 1));
  EXPECT_EQ(api.ibv_query_gid(second, 1, 1, &gid), 0);
  EXPECT_EQ(gid.global.interface_id, 0U);
  EXPECT_EQ(fabric.leaks(), "2 context");
  EXPECT_EQ(api.ibv_close_device(first), 0);
  EXPECT_EQ(api.ibv_close_device(second), 0);
  EXPECT_EQ(fabric.leaks(), "");
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Keys, windows, states and errors, as raw verbs programs meet them on the fake NIC.

#include <gmock/gmock.h>
#include <sys/eventfd.h>

#include "tests/transport/fake_nic_support.h"
#include "transport/base/unique_fd.h"

namespace penstock::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ibv_send_wr write_to(const Side& to, ibv_sge& sge, std::size_t offset = 0) {
  ibv_send_wr wr{};
  wr.opcode = IBV_WR_RDMA_WRITE;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.wr.rdma = {to.at(offset), to.mr->rkey};
  return wr;
}

// Receive a request that the responder refuses. Expect the error, the followers flushed, both ends
// in error and an event at the responder.
void expect_refused(Pair& pair, ibv_send_wr wr, ibv_wc_status status = IBV_WC_REM_ACCESS_ERR) {
  ASSERT_EQ(pair.post(pair.a, wr), 0);
  ASSERT_EQ(pair.write(pair.a, pair.b, 2, 0), 0);
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(status, IBV_WC_WR_FLUSH_ERR));
  EXPECT_EQ(pair.fabric.state_of(pair.a.number()), IBV_QPS_ERR);
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_ERR);
  ibv_async_event event{};
  ASSERT_EQ(pair.api.ibv_get_async_event(pair.b.id->verbs, &event), 0);
  EXPECT_EQ(event.element.qp, pair.b.qp());
  pair.api.ibv_ack_async_event(&event);
}

TEST(FakeNicWire, RefusesAWriteOneBytePastTheRegion) {
  Pair pair;
  ibv_sge sge = pair.a.sge(8);
  expect_refused(pair, write_to(pair.b, sge, 4096 - 7));
  EXPECT_EQ(pair.b.bytes.back(), std::byte{0});
}

TEST(FakeNicWire, RefusesAKeyThatIsWrongByOneBit) {
  Pair pair;
  ibv_sge sge = pair.a.sge(8);
  ibv_send_wr wr = write_to(pair.b, sge);
  wr.wr.rdma.rkey ^= 1U;
  expect_refused(pair, wr);
}

TEST(FakeNicWire, RefusesARegionOfAnotherDomain) {
  Pair pair;
  ibv_pd* other = pair.api.ibv_alloc_pd(pair.b.id->verbs);
  ibv_mr* mr = pair.api.ibv_reg_mr_iova2(other, pair.b.bytes.data(), 64, pair.b.at(),
                                         IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  ibv_sge sge = pair.a.sge(8);
  ibv_send_wr wr = write_to(pair.b, sge);
  wr.wr.rdma.rkey = mr->rkey;
  expect_refused(pair, wr);
  EXPECT_EQ(pair.api.ibv_dereg_mr(mr), 0);
  EXPECT_EQ(pair.api.ibv_dealloc_pd(other), 0);
}

TEST(FakeNicWire, RefusesARegionWithoutThatAccessAndOneThatIsGone) {
  for (const bool gone : {false, true}) {
    Pair pair;
    ibv_mr* mr = pair.api.ibv_reg_mr_iova2(
        pair.b.pd, pair.b.bytes.data(), 64, pair.b.at(),
        IBV_ACCESS_LOCAL_WRITE | (gone ? IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ));
    ibv_sge sge = pair.a.sge(8);
    ibv_send_wr wr = write_to(pair.b, sge);
    wr.wr.rdma.rkey = mr->rkey;
    if (gone) {
      EXPECT_EQ(pair.api.ibv_dereg_mr(mr), 0);
    }
    expect_refused(pair, wr);
    if (!gone) {
      EXPECT_EQ(pair.api.ibv_dereg_mr(mr), 0);
    }
  }
}

TEST(FakeNicWire, AWrongLocalKeyIsTheRequestersTroubleAlone) {
  Pair pair;
  ibv_sge sge = pair.a.sge(8);
  sge.lkey = pair.a.mr->rkey;
  ibv_send_wr wr = write_to(pair.b, sge);
  ASSERT_EQ(pair.post(pair.a, wr), 0);
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_LOC_PROT_ERR));  // mlx5
  EXPECT_EQ(pair.fabric.state_of(pair.a.number()), IBV_QPS_ERR);
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_RTS);
}

TEST(FakeNicWire, ReadsWithADifferentIova) {
  Pair pair;
  constexpr std::uint64_t kIova = 0x1000;
  ibv_mr* mr =
      pair.api.ibv_reg_mr_iova2(pair.b.pd, pair.b.bytes.data(), 64, kIova, IBV_ACCESS_REMOTE_READ);
  pair.b.bytes[10] = std::byte{7};
  ibv_sge sge = pair.a.sge(1);
  ibv_send_wr wr = write_to(pair.b, sge);
  wr.opcode = IBV_WR_RDMA_READ;
  wr.wr.rdma = {kIova + 10, mr->rkey};
  ASSERT_EQ(pair.post(pair.a, wr), 0);
  const auto done = pair.poll(pair.a.sends);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].opcode, IBV_WC_RDMA_READ);
  EXPECT_EQ(pair.a.bytes[0], std::byte{7});
  EXPECT_EQ(pair.api.ibv_dereg_mr(mr), 0);
}

TEST(FakeNicWire, DeregisteringUnderAPostedRequestIsAViolation) {
  PairOptions options;
  options.fabric.mode = FakeMode::kStepped;
  Pair pair(options);
  ASSERT_EQ(pair.write(pair.a, pair.b, 1), 0);
  EXPECT_EQ(pair.api.ibv_dereg_mr(std::exchange(pair.a.mr, nullptr)), 0);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("a mr was deregistered while a request"));
  pair.drain();
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_LOC_PROT_ERR));
}

// --- Memory windows of type 2B.

struct Window {
  explicit Window(Pair& owner, Side& where) : pair(owner), side(where) {
    mw = ibv_alloc_mw(side.pd, IBV_MW_TYPE_2);
  }
  ~Window() { EXPECT_EQ(ibv_dealloc_mw(mw), 0); }
  void bind(std::uint32_t rkey, std::size_t offset, std::uint64_t length) {
    ibv_send_wr wr{};
    wr.opcode = IBV_WR_BIND_MW;
    wr.send_flags = IBV_SEND_SIGNALED;
    wr.bind_mw.mw = mw;
    wr.bind_mw.rkey = rkey;
    wr.bind_mw.bind_info = {side.mr, side.at(offset), length, IBV_ACCESS_REMOTE_WRITE};
    ASSERT_EQ(pair.post(side, wr), 0);
  }
  void invalidate(std::uint32_t rkey) {
    ibv_send_wr wr{};
    wr.opcode = IBV_WR_LOCAL_INV;
    wr.send_flags = IBV_SEND_SIGNALED;
    wr.invalidate_rkey = rkey;
    ASSERT_EQ(pair.post(side, wr), 0);
  }
  Pair& pair;
  Side& side;
  ibv_mw* mw = nullptr;
};

TEST(FakeNicWire, AWindowOpensItsBytesAndNoMore) {
  Pair pair;
  {
    Window window(pair, pair.b);
    const std::uint32_t rkey = ibv_inc_rkey(window.mw->rkey);
    window.bind(rkey, 100, 50);
    EXPECT_THAT(pair.statuses(pair.b.sends), ElementsAre(IBV_WC_SUCCESS));
    EXPECT_EQ(pair.api.ibv_dereg_mr(pair.b.mr), EBUSY) << "a window is bound to it";
    (void)pair.fabric.take_violations();
    pair.a.bytes[0] = std::byte{9};
    ibv_sge sge = pair.a.sge(10);
    ibv_send_wr wr = write_to(pair.b, sge, 140);
    wr.wr.rdma.rkey = rkey;
    ASSERT_EQ(pair.post(pair.a, wr), 0);
    EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_SUCCESS));
    EXPECT_EQ(pair.b.bytes[140], std::byte{9});
    wr.wr.rdma.remote_addr += 1;
    expect_refused(pair, wr);
  }
}

TEST(FakeNicWire, AnInvalidatedWindowIsClosed) {
  Pair pair;
  {
    Window window(pair, pair.b);
    const std::uint32_t rkey = ibv_inc_rkey(window.mw->rkey);
    window.bind(rkey, 0, 64);
    window.invalidate(rkey);
    EXPECT_THAT(pair.statuses(pair.b.sends), ElementsAre(IBV_WC_SUCCESS, IBV_WC_SUCCESS));
    ibv_sge sge = pair.a.sge(8);
    ibv_send_wr wr = write_to(pair.b, sge);
    wr.wr.rdma.rkey = rkey;
    expect_refused(pair, wr);
    EXPECT_EQ(pair.fabric.ledger().binds, 1U);
    EXPECT_EQ(pair.fabric.ledger().invalidations, 1U);
  }
}

TEST(FakeNicWire, BindingABoundWindowOrAForeignKeyFails) {
  for (const bool twice : {true, false}) {
    Pair pair;
    Window window(pair, pair.b);
    if (twice) window.bind(window.mw->rkey, 0, 64);
    window.bind(window.mw->rkey + (twice ? 0 : 256), 0, 64);
    const auto statuses = pair.statuses(pair.b.sends);
    ASSERT_FALSE(statuses.empty());
    EXPECT_EQ(statuses.back(), IBV_WC_MW_BIND_ERR);
  }
}

// --- Receives.

TEST(FakeNicWire, WaitsForAReceiveThenGivesUp) {
  Pair pair;
  ASSERT_EQ(pair.write_immediate(pair.a, 1, 1), 0);
  EXPECT_TRUE(pair.poll(pair.a.sends).empty());
  EXPECT_EQ(pair.fabric.ledger().rnr_waits, 1U);
  ASSERT_EQ(pair.receive(pair.b, 3), 0);
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_SUCCESS));
  ASSERT_EQ(pair.write_immediate(pair.a, 2, 1), 0);
  pair.fabric.expire_timers();
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_RNR_RETRY_EXC_ERR));
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_RTS) << "the receiver does not know";
}

TEST(FakeNicWire, SevenMeansForEver) {
  PairOptions options;
  options.connection.rnr_retry_count = 7;
  Pair pair(options);
  ASSERT_EQ(pair.write_immediate(pair.a, 1, 1), 0);
  EXPECT_EQ(pair.fabric.next_timer_ns(), kNever);
}

TEST(FakeNicWire, AMessageTooLongFailsBothEnds) {
  Pair pair;
  ibv_sge into = pair.b.sge(16);
  ibv_recv_wr receive{4, nullptr, &into, 1};
  ibv_recv_wr* bad = nullptr;
  ASSERT_EQ(ibv_post_recv(pair.b.qp(), &receive, &bad), 0);
  ibv_sge sge = pair.a.sge(64);
  ibv_send_wr wr = write_to(pair.b, sge);
  wr.opcode = IBV_WR_SEND;
  ASSERT_EQ(pair.post(pair.a, wr), 0);
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_REM_INV_REQ_ERR));  // mlx5
  EXPECT_THAT(pair.statuses(pair.b.receives), ElementsAre(IBV_WC_LOC_LEN_ERR));
  EXPECT_EQ(pair.fabric.state_of(pair.b.number()), IBV_QPS_ERR);
}

TEST(FakeNicWire, ReceivesAreFlushedByAnErrorAndAfterIt) {
  Pair pair;
  ASSERT_EQ(pair.receive(pair.b, 1), 0);
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_ERR;
  ASSERT_EQ(pair.api.ibv_modify_qp(pair.b.qp(), &attr, IBV_QP_STATE), 0);
  ASSERT_EQ(pair.receive(pair.b, 2), 0);  // mlx5; soft-RoCE never flushes this one
  EXPECT_THAT(pair.statuses(pair.b.receives),
              ElementsAre(IBV_WC_WR_FLUSH_ERR, IBV_WC_WR_FLUSH_ERR));
  ASSERT_EQ(pair.write(pair.b, pair.a, 3, 0), 0);
  EXPECT_THAT(pair.statuses(pair.b.sends), ElementsAre(IBV_WC_WR_FLUSH_ERR)) << "unsignalled too";
}

// --- States.

TEST(FakeNicWire, RefusesTransitionsThatDoNotExist) {
  Pair pair;
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTR;
  EXPECT_EQ(pair.api.ibv_modify_qp(pair.a.qp(), &attr, IBV_QP_STATE), EINVAL);
  attr.qp_state = IBV_QPS_INIT;
  EXPECT_EQ(pair.api.ibv_modify_qp(pair.a.qp(), &attr, IBV_QP_STATE), EINVAL);
  attr.min_rnr_timer = 1;
  EXPECT_EQ(pair.api.ibv_modify_qp(pair.a.qp(), &attr, IBV_QP_MIN_RNR_TIMER), 0);
  attr.qp_state = IBV_QPS_RESET;
  EXPECT_EQ(pair.api.ibv_modify_qp(pair.a.qp(), &attr, IBV_QP_STATE), 0);
  EXPECT_EQ(pair.write(pair.a, pair.b, 1), EINVAL);
  EXPECT_THAT(pair.fabric.take_violations(), HasSubstr("which is not connected"));
}

// Back to life by hand, as after an error; `psn` is what both ends agree on.
void revive(Pair& pair, Side& side, std::uint32_t peer, std::uint32_t send_psn,
            std::uint32_t receive_psn) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RESET;
  ASSERT_EQ(pair.api.ibv_modify_qp(side.qp(), &attr, IBV_QP_STATE), 0);
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = 1;
  attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  constexpr int kInit = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
  ASSERT_EQ(pair.api.ibv_modify_qp(side.qp(), &attr, kInit), 0);
  attr.qp_state = IBV_QPS_RTR;
  attr.ah_attr.is_global = 1;
  attr.path_mtu = IBV_MTU_1024;
  attr.dest_qp_num = peer;
  attr.rq_psn = receive_psn;
  constexpr int kReady = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                         IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  ASSERT_EQ(pair.api.ibv_modify_qp(side.qp(), &attr, kReady), 0);
  attr.qp_state = IBV_QPS_RTS;
  attr.timeout = 14;
  attr.sq_psn = send_psn;
  constexpr int kSend = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                        IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;
  ASSERT_EQ(pair.api.ibv_modify_qp(side.qp(), &attr, kSend), 0);
}

TEST(FakeNicWire, AQueuePairLivesAgainAfterReset) {
  Pair pair;
  ibv_sge sge = pair.a.sge(8);
  expect_refused(pair, write_to(pair.b, sge, 4095));
  revive(pair, pair.a, pair.b.number(), 100, 200);
  revive(pair, pair.b, pair.a.number(), 200, 100);
  ASSERT_EQ(pair.write(pair.a, pair.b, 1), 0);
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_SUCCESS));
}

TEST(FakeNicWire, PacketsOfAnotherLifeAreDropped) {
  Pair pair;
  revive(pair, pair.a, pair.b.number(), 100, 200);
  revive(pair, pair.b, pair.a.number(), 200, 101);
  ASSERT_EQ(pair.write(pair.a, pair.b, 1), 0);
  EXPECT_TRUE(pair.poll(pair.a.sends).empty());
  pair.fabric.expire_timers();
  EXPECT_THAT(pair.statuses(pair.a.sends), ElementsAre(IBV_WC_RETRY_EXC_ERR));
}

// --- Registration.

TEST(FakeNicWire, RegistrationFailsAsItDoes) {
  PairOptions options;
  options.fabric.nics[0].limits.memlock_bytes = 64 << 10;
  Pair pair(options);
  std::vector<std::byte> big(64 << 10);
  const auto error_of = [&](unsigned access) {
    errno = 0;
    ibv_mr* mr = pair.api.ibv_reg_mr_iova2(pair.a.pd, big.data(), big.size(), 0, access);
    EXPECT_EQ(mr, nullptr);
    return errno;
  };
  EXPECT_EQ(error_of(IBV_ACCESS_LOCAL_WRITE), ENOMEM);
  EXPECT_EQ(error_of(IBV_ACCESS_REMOTE_WRITE), EINVAL) << "without local write";
  EXPECT_EQ(error_of(IBV_ACCESS_ON_DEMAND), EOPNOTSUPP);
  pair.fabric.fail_registrations(EFAULT);
  EXPECT_EQ(error_of(IBV_ACCESS_LOCAL_WRITE), EFAULT);
}

TEST(FakeNicWire, DmabufIsProbedWithoutADescriptor) {
  for (const bool able : {false, true}) {
    PairOptions options;
    options.fabric.nics[0].dmabuf = able;
    Pair pair(options);
    EXPECT_EQ(pair.api.ibv_reg_dmabuf_mr(pair.a.pd, 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE),
              nullptr);
    EXPECT_EQ(errno, able ? EBADF : EOPNOTSUPP);
    if (!able) continue;
    std::vector<std::byte> gpu(8192);
    UniqueFd fd(::eventfd(0, EFD_CLOEXEC));  // any that is open
    pair.fabric.add_dmabuf(fd.get(), gpu);
    ibv_mr* mr = pair.api.ibv_reg_dmabuf_mr(pair.b.pd, 4096, 4096, 0x10000, fd.get(),
                                            IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    ASSERT_NE(mr, nullptr);
    pair.a.bytes[0] = std::byte{3};
    ibv_sge sge = pair.a.sge(1);
    ibv_send_wr wr = write_to(pair.b, sge);
    wr.wr.rdma = {0x10000, mr->rkey};
    ASSERT_EQ(pair.post(pair.a, wr), 0);
    EXPECT_EQ(gpu[4096], std::byte{3});
    EXPECT_EQ(pair.api.ibv_dereg_mr(mr), 0);
  }
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Ends with requests in flight, as NCCL's abort has them: nothing hangs, nothing is touched that
// was given back, and what comes afterwards works.

#include <cstring>

#include "tests/bindings/nccl/driver.h"

namespace penstock::test {
namespace {

constexpr NcclResult kOk = NcclResult::kSuccess;
constexpr std::size_t kLarge = std::size_t{8} << 20;
using NcclClose = NcclNet;

TEST_P(NcclClose, TheReceiverGoesWithReceivesPosted) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Pair other(*net_);  // memory of one connection serves every one of the device
  ASSERT_TRUE(other.listen() && other.connect());
  Buffer from(*net_, other.sender, kLarge), into(*net_, other.receiver, kLarge);
  for (int i = 0; i < 4; ++i) ASSERT_NE(receive(pair, into, kLarge, 0), nullptr);
  void* sending = send(pair, from, kLarge, 0);
  ASSERT_NE(sending, nullptr);
  ASSERT_EQ(net_->close_receive(pair.receiver), kOk);
  pair.receiver = nullptr;
  (void)fails(sending);  // or all of it was there already
  take_log();
  // From then on it says so.
  void* request = nullptr;
  NcclResult result = kOk;
  ASSERT_TRUE(until([&] { return (result = try_send(pair, from, 1, 9, &request)) != kOk; }));
  EXPECT_EQ(result, NcclResult::kRemoteError);
  EXPECT_EQ(request, nullptr);
  EXPECT_NE(take_log(), "");
  ASSERT_EQ(net_->close_send(pair.sender), kOk);
  pair.sender = nullptr;
  expect_transfer(other, 1000);
  Pair next(*net_);
  ASSERT_TRUE(next.listen() && next.connect());
  expect_transfer(next, 1000);
}

TEST_P(NcclClose, TheSenderGoesInTheMiddleOfASend) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer into(*net_, pair.receiver, kLarge);
  void* receiving = receive(pair, into, kLarge, 0);
  {
    Buffer from(*net_, pair.sender, kLarge);
    ASSERT_NE(send(pair, from, kLarge, 0), nullptr);
    // `from` is deregistered and freed here, with the send in flight.
  }
  ASSERT_EQ(net_->close_send(pair.sender), kOk);
  pair.sender = nullptr;
  take_log();
  if (fails(receiving)) {
    EXPECT_NE(take_log(), "");
    void* request = nullptr;
    EXPECT_NE(try_receive(pair, into, 1, 0, &request), kOk);
  }
}

TEST_P(NcclClose, MemoryThatIsDeregisteredIsNotWrittenToAnyMore) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, kLarge), into(*net_, pair.receiver, kLarge);
  std::memset(from.at(), 0xff, kLarge);
  ASSERT_NE(receive(pair, into, kLarge, 0), nullptr);
  void* sending = send(pair, from, kLarge, 0);
  ASSERT_NE(sending, nullptr);
  into.drop();
  std::memset(into.at(), 0, kLarge);
  (void)fails(sending);  // or all of it was there already
  for (std::size_t i = 0; i < kLarge; ++i) ASSERT_EQ(into.at()[i], std::byte{0}) << i;
}

TEST_P(NcclClose, BothEndsInEitherOrderWithEverythingInFlight) {
  for (const bool sender_first : {true, false}) {
    Pair pair(*net_);
    ASSERT_TRUE(pair.listen() && pair.connect());
    Buffer from(*net_, pair.sender, kLarge), into(*net_, pair.receiver, kLarge);
    for (int i = 0; i < 32; ++i) ASSERT_NE(receive(pair, into, kLarge, 0), nullptr);
    for (int i = 0; i < 32; ++i) ASSERT_NE(send(pair, from, kLarge, 0), nullptr);
    (sender_first ? from : into).drop();
    (sender_first ? into : from).drop();
    if (!sender_first) continue;
    ASSERT_EQ(net_->close_send(pair.sender), kOk);
    pair.sender = nullptr;
  }
  take_log();
  Pair next(*net_);
  ASSERT_TRUE(next.listen() && next.connect());
  expect_transfer(next, 1000);
}

TEST_P(NcclClose, AListenerGoesWhileAPeerConnects) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen());
  const int device = connecting_device(*net_);
  ASSERT_EQ(net_->connect(device, pair.handle, &pair.sender), kOk);
  ASSERT_EQ(net_->close_listen(pair.listener), kOk);
  pair.listener = nullptr;
  // Somebody accepts elsewhere on the device meanwhile, so that the peer hears of it.
  Pair other(*net_);
  ASSERT_TRUE(other.listen());
  NcclResult result = kOk;
  ASSERT_TRUE(until([&] {
    EXPECT_EQ(net_->accept(other.listener, &other.receiver), kOk);
    if (pair.sender == nullptr) result = net_->connect(device, pair.handle, &pair.sender);
    return result != kOk || pair.sender != nullptr;
  }));
  EXPECT_EQ(result, NcclResult::kRemoteError);
  EXPECT_EQ(pair.sender, nullptr);
  take_log();
  ASSERT_TRUE(other.connect());
  expect_transfer(other, 1000);
}

TEST_P(NcclClose, ADoneReceiveStaysDoneWhenTheSenderIsGone) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, 100), into(*net_, pair.receiver, 100);
  from.fill(9);
  void* receiving = receive(pair, into, 100, 0);
  void* idle = receive(pair, into, 0, 1);
  void* sending = send(pair, from, 100, 0);
  // The sender's end is told by the receiver's polls, of a request that nothing comes for.
  ASSERT_TRUE(until([&] {
    int sent = 0, never = 0;
    EXPECT_EQ(net_->test(idle, &never, nullptr), kOk);
    EXPECT_EQ(net_->test(sending, &sent, nullptr), kOk);
    return sent != 0;
  }));
  ASSERT_EQ(net_->deregister(pair.sender, nullptr), kOk);
  from.drop();
  ASSERT_EQ(net_->close_send(pair.sender), kOk);
  pair.sender = nullptr;
  EXPECT_TRUE(fails(idle));
  EXPECT_EQ(finish(receiving), 100);
  EXPECT_TRUE(into.holds(9, 100));
  take_log();
}

INSTANTIATE_TEST_SUITE_P(V, NcclClose, ::testing::Range(8, 13),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// How connections come about, and who gets none.

#include <deque>

#include "tests/bindings/nccl/driver.h"

namespace penstock::test {
namespace {

constexpr NcclResult kOk = NcclResult::kSuccess;
using NcclConnect = NcclNet;

// As a job does that comes up, over and over: each wave is so many connections at a time.
TEST_P(NcclConnect, ManyTimes) {
  constexpr int kWave = 50;
  for (int made = 0; made < PENSTOCK_TEST_CONNECTS; made += kWave) {
    std::deque<Pair> wave;
    for (int i = 0; i < kWave; ++i) ASSERT_TRUE(wave.emplace_back(*net_).listen());
    NcclResult result = kOk;
    const int device = connecting_device(*net_);
    ASSERT_TRUE(until([&] {
      bool all = true;
      for (Pair& pair : wave) {
        if (pair.sender == nullptr && result == kOk)
          result = net_->connect(device, pair.handle, &pair.sender);
        if (pair.receiver == nullptr && result == kOk)
          result = net_->accept(pair.listener, &pair.receiver);
        all = all && pair.sender != nullptr && pair.receiver != nullptr;
      }
      return all || result != kOk;
    }));
    ASSERT_EQ(result, kOk) << take_log();
    expect_transfer(wave.front(), 100);
    expect_transfer(wave.back(), 100);
    if (HasFailure()) return;
  }
}

TEST_P(NcclConnect, RefusesASecondPeerWithTheSameHandle) {
  Pair pair(*net_), second(*net_);
  ASSERT_TRUE(pair.listen());
  second.handle = pair.handle;
  ASSERT_TRUE(pair.connect());
  NcclResult result = kOk;
  ASSERT_TRUE(until([&] {
    result = net_->connect(connecting_device(*net_), second.handle, &second.sender);
    // Somebody has to look after newcomers.
    void* none = nullptr;
    Pair other(*net_);
    EXPECT_TRUE(other.listen());
    EXPECT_EQ(net_->accept(other.listener, &none), kOk);
    return none != nullptr || result != kOk || second.sender != nullptr;
  }));
  EXPECT_EQ(second.sender, nullptr);
  EXPECT_EQ(result, NcclResult::kRemoteError);
  EXPECT_EQ(net_->accept(pair.listener, &second.receiver), NcclResult::kInvalidUsage);
  take_log();
  expect_transfer(pair, 10);
}

// What another thread of NCCL's would see: nobody has to wait for anybody.
TEST_P(NcclConnect, AnswersAtOnceWhenNobodyIsThere) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen());
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(net_->accept(pair.listener, &pair.receiver), kOk);
    ASSERT_EQ(pair.receiver, nullptr);
  }
  // And the other way: the connecting end alone.
  for (int i = 0; i < 100 && pair.sender == nullptr; ++i)
    ASSERT_EQ(net_->connect(connecting_device(*net_), pair.handle, &pair.sender), kOk);
  ASSERT_TRUE(pair.connect());
  expect_transfer(pair, 10);
}

TEST_P(NcclConnect, RefusesAStrangerAndTakesTheRightOne) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen());
  // The address is right, a byte of the secret is not.
  HandleBytes forged = pair.handle;
  forged[8] ^= std::byte{1};
  void* stranger = nullptr;
  NcclResult result = kOk;
  ASSERT_TRUE(until([&] {
    result = net_->connect(connecting_device(*net_), forged, &stranger);
    EXPECT_EQ(net_->accept(pair.listener, &pair.receiver), kOk);
    return result != kOk || stranger != nullptr;
  }));
  EXPECT_EQ(stranger, nullptr);
  EXPECT_EQ(pair.receiver, nullptr);
  EXPECT_EQ(result, NcclResult::kRemoteError);
  EXPECT_NE(take_log().find("token"), std::string::npos);
  ASSERT_TRUE(pair.connect());
  expect_transfer(pair, 10);
}

TEST_P(NcclConnect, RefusesWhatIsNoHandle) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen());
  void* comm = nullptr;
  HandleBytes nothing{};
  EXPECT_NE(net_->connect(0, nothing, &comm), kOk);
  HandleBytes newer = pair.handle;
  newer[4] = std::byte{99};  // version
  EXPECT_NE(net_->connect(0, newer, &comm), kOk);
  EXPECT_NE(take_log().find("99"), std::string::npos);
  HandleBytes longer = pair.handle;
  longer[5] = std::byte{255};  // length of the address
  EXPECT_NE(net_->connect(0, longer, &comm), kOk);
  HandleBytes elsewhere = pair.handle;
  elsewhere[32] = std::byte{'x'};  // in the address
  EXPECT_NE(net_->connect(0, elsewhere, &comm), kOk);
  EXPECT_EQ(comm, nullptr);
  EXPECT_NE(net_->connect(99, pair.handle, &comm), kOk);
  take_log();
  // A cookie that came with it is no pointer and names nothing here.
  for (std::size_t i = 24; i < 32; ++i) pair.handle[i] = std::byte{0x41};
  ASSERT_TRUE(pair.connect());
  expect_transfer(pair, 10);
}

INSTANTIATE_TEST_SUITE_P(V, NcclConnect, ::testing::Range(8, 13),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace penstock::test

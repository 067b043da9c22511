// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Lent bytes that the kernel reads in place come back when the peer has them and the kernel is
// done with them, whichever is later.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/transport/tcp_raw_peer.h"
#include "transport/base/random.h"
#include "transport/tcp/sender.h"
#include "transport/tcp/zerocopy.h"

namespace penstock::tcp {
namespace {

TEST(ZerocopyLog, ReleasesInOrderWhateverTheOrderOfTheNotices) {
  ZerocopyLog log(Zerocopy::kOn);
  for (int i = 0; i < 6; ++i) log.sent();
  log.over(2, 3, false);
  EXPECT_EQ(log.released(), 0U);
  log.over(0, 0, false);
  EXPECT_EQ(log.released(), 1U);
  log.over(1, 1, false);
  EXPECT_EQ(log.released(), 4U);
  log.over(4, 5, false);
  EXPECT_FALSE(log.outstanding());
}

TEST(ZerocopyLog, IgnoresNoticesOfCallsThatWereNeverMade) {
  ZerocopyLog log(Zerocopy::kOn);
  log.sent();
  log.over(1, 1, false);
  log.over(0, 5, false);
  log.over(7, 2, false);
  EXPECT_EQ(log.released(), 0U);
  log.over(0, 0, false);
  log.over(0, 0, false);
  EXPECT_EQ(log.released(), 1U);
}

TEST(ZerocopyLog, TriesAFewLargeSendsAndStopsWhenTheyWereCopied) {
  ZerocopyLog log(Zerocopy::kAuto);
  EXPECT_FALSE(log.wants(4096, 2));
  EXPECT_FALSE(log.wants(1 << 20, 128));  // many small ones
  std::uint32_t tries = 0;
  for (; log.wants(1 << 20, 2); ++tries) log.sent();
  EXPECT_GT(tries, 0U);
  EXPECT_LT(tries, 10U);
  log.over(0, 0, true);
  EXPECT_FALSE(log.wants(1 << 20, 2));
  log.over(1, tries - 1, true);
  EXPECT_FALSE(log.outstanding());
}

TEST(ZerocopyLog, GoesOnWhenTheyWereNot) {
  ZerocopyLog log(Zerocopy::kAuto);
  while (log.wants(1 << 20, 2)) log.sent();
  log.over(0, 0, false);
  std::uint64_t more = 0;
  for (; log.wants(1 << 20, 2); ++more) log.sent();
  // There is an end to what may be outstanding.
  EXPECT_EQ(log.calls() - log.released(), 1024U);
}

TEST(Sender, KeepsAPostUntilTheKernelIsDoneThoughThePeerHasIt) {
  Sender sender(4);
  std::vector<std::byte> bytes(100);
  const Sender::Post post{
      .header = {.type = FrameType::kWrite}, .local = bytes, .opcode = Opcode::kWrite};
  sender.push(post);
  (void)sender.batch(0);
  EXPECT_TRUE(sender.batch_is_lent());
  // The first half goes by call 1, the second by call 2.
  EXPECT_EQ(sender.advance(80, 1), 0U);
  EXPECT_EQ(sender.advance(84, 2), 1U);
  // Receive the acknowledgement first. Expect the post to wait for the second call.
  ASSERT_TRUE(sender.acknowledge(1));
  EXPECT_FALSE(sender.oldest_done());
  sender.release(1);
  EXPECT_FALSE(sender.oldest_done());
  sender.release(2);
  EXPECT_TRUE(sender.oldest_done());
  sender.retire_oldest();
  // Receive the kernel's notice first: the other way round.
  sender.push(post);
  (void)sender.batch(0);
  EXPECT_EQ(sender.advance(164, 3), 1U);
  sender.release(3);
  EXPECT_FALSE(sender.oldest_done());
  ASSERT_TRUE(sender.acknowledge(2));
  EXPECT_TRUE(sender.oldest_done());
}

TEST(Sender, LendsNoBatchWithAFrameThatChanges) {
  Sender sender(4);
  sender.push({.header = {.type = FrameType::kWrite}, .local = {}, .opcode = Opcode::kWrite});
  ASSERT_TRUE(sender.push_control({.type = FrameType::kAck}));
  (void)sender.batch(0);
  EXPECT_FALSE(sender.batch_is_lent());
}

void expect_bytes(TcpPair& pair, std::uint64_t seed) {
  SeededRandom random(seed);
  for (std::byte& byte : pair.a.bytes) byte = std::byte(random.next());
  constexpr std::uint32_t kPosts = 200;
  for (std::uint32_t i = 0; i < kPosts; ++i) {
    const std::uint64_t length = 1 + random.below(random.chance(500'000) ? 500 : 300'000);
    ASSERT_TRUE(
        pair.a.write(pair.b, random.below(pair.a.bytes.size() - length), length, i, i).ok());
  }
  ASSERT_TRUE(pair.a.write(pair.b, 0, pair.a.bytes.size(), kPosts, kPosts).ok());
  for (std::uint32_t i = 0; i <= kPosts; ++i) {
    const auto done = pair.a.wait_for(Event::kWriteDone);
    ASSERT_TRUE(done.has_value());
    ASSERT_EQ(code_name(done->code), code_name(Code::kOk));
    ASSERT_EQ(done->tag, i);
  }
  EXPECT_EQ(pair.a.bytes, pair.b.bytes);
}

TEST(TcpZerocopy, MovesTheSameBytesWhenForced) {
  TcpPair pair({.advertise_host = {}, .zerocopy = Zerocopy::kOn});
  ASSERT_TRUE(pair.connect());
  expect_bytes(pair, 1);
  EXPECT_GT(pair.a.counter("zerocopy_sends"), 1U);
  // Both ends are on this machine: the kernel copied, and said so for each.
  EXPECT_EQ(pair.a.counter("zerocopy_copied"), pair.a.counter("zerocopy_sends"));
}

TEST(TcpZerocopy, GivesUpByItselfWhereTheKernelCopies) {
  TcpPair pair({.advertise_host = {}, .zerocopy = Zerocopy::kAuto});
  ASSERT_TRUE(pair.connect());
  expect_bytes(pair, 2);
  const std::uint64_t tries = pair.a.counter("zerocopy_sends");
  EXPECT_GT(tries, 0U);
  EXPECT_LT(tries, 10U);
  expect_bytes(pair, 3);
  EXPECT_EQ(pair.a.counter("zerocopy_sends"), tries);
}

// The peer takes in nothing, so the kernel has not even sent what it may still read.
TEST(TcpZerocopy, ClosingGivesTheBytesBackAtOnce) {
  TcpPair pair({.advertise_host = {}, .zerocopy = Zerocopy::kOn});
  ASSERT_TRUE(pair.connect());
  for (std::uint32_t i = 0; i < 32; ++i)
    ASSERT_TRUE(pair.a.write(pair.b, 0, pair.a.bytes.size(), i, i).ok());
  for (int i = 0; i < 100; ++i) pair.a.poll();
  ASSERT_GT(pair.a.counter("zerocopy_sends"), pair.a.counter("zerocopy_copied"));
  pair.a.endpoint->close();
  pair.a.peer = nullptr;
  const auto end = pair.a.wait_for(Event::kDisconnected);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(pair.a.events.size(), 32U);
  EXPECT_EQ(code_name(pair.a.events.back().code), code_name(Code::kCancelled));
  const auto lost = pair.b.wait_for(Event::kDisconnected);
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(code_name(lost->code), code_name(Code::kConnectionLost));
}

}  // namespace
}  // namespace penstock::tcp

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Messages that are thrown away, and the scheduler's book of barriers.

#include "bindings/pslite/resender.h"

#include <gtest/gtest.h>

#include "bindings/pslite/barrier_book.h"

namespace penstock::pslite {
namespace {

constexpr int kHere = 8, kThere = 9;

Message request(int number) {
  Message message = make(Kind::kRequest, kThere);
  message.envelope.timestamp = number;
  message.parts = {own(std::to_string(number))};
  return message;
}

// Two nodes with a wire between them that throws away as much as they do.
struct Pair {
  explicit Pair(int percent)
      : here(clock, {true, percent, kSecond}), there(clock, {true, percent, kSecond}) {}

  // Carries a message over, and what comes of it, to and fro.
  void carry(Resender& to, int from, Message message) {
    message.peer = from;
    Resender::Arrival arrival = to.arrived(std::move(message));
    for (Message& each : arrival.deliver) {
      EXPECT_EQ(each.body(), std::to_string(each.envelope.timestamp));
      delivered.push_back(each.envelope.timestamp);
    }
    Resender& back = &to == &there ? here : there;
    for (Message& each : arrival.send) carry(back, from == kHere ? kThere : kHere, std::move(each));
  }

  ManualClock clock;
  Resender here, there;
  std::vector<int> delivered;
};

TEST(Resender, DeliversEverythingOnceAndInOrderWhateverIsThrownAway) {
  for (const int percent : {0, 10, 60}) {
    Pair pair(percent);
    constexpr int kMessages = 500;
    for (int i = 0; i < kMessages; ++i) {
      Message message = request(i);
      pair.here.number(message);
      pair.carry(pair.there, kHere, std::move(message));
    }
    for (int turn = 0; turn < 1000 && pair.delivered.size() < kMessages; ++turn) {
      pair.clock.advance(kSecond);
      for (Message& message : pair.here.due()) pair.carry(pair.there, kHere, std::move(message));
    }
    ASSERT_EQ(pair.delivered.size(), kMessages);
    for (int i = 0; i < kMessages; ++i) EXPECT_EQ(pair.delivered[static_cast<std::size_t>(i)], i);
    EXPECT_EQ(pair.there.dropped() > 0, percent > 0);
  }
}

TEST(Resender, AMessageThatIsUnderWayIsNotSentAgain) {
  ManualClock clock;
  Resender resender(clock, {true, 0, kSecond});
  Message message = request(1);
  resender.number(message);
  clock.advance(10 * kSecond);
  EXPECT_TRUE(resender.due().empty());
  message.parts.clear();  // it is at the peer
  clock.advance(10 * kSecond);
  const std::vector<Message> again = resender.due();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].body(), "1");
}

TEST(Resender, AReplayIsNoNewsAndMayLandNowhere) {
  Pair pair(0);
  Message message = request(1);
  pair.here.number(message);
  const Message replay = message;
  EXPECT_TRUE(pair.there.fresh(kHere, message.envelope.sequence));
  pair.carry(pair.there, kHere, std::move(message));
  EXPECT_FALSE(pair.there.fresh(kHere, replay.envelope.sequence));
  pair.carry(pair.there, kHere, replay);
  EXPECT_EQ(pair.delivered.size(), 1u);
}

TEST(Resender, WithoutResendNothingIsNumberedOrThrownAway) {
  ManualClock clock;
  Resender resender(clock, {false, 99, kSecond});
  Message message = request(1);
  resender.number(message);
  EXPECT_EQ(message.envelope.sequence, 0u);
  EXPECT_EQ(resender.arrived(std::move(message)).deliver.size(), 1u);
  EXPECT_EQ(resender.dropped(), 0u);
}

TEST(BarrierBook, ReleasesEverybodyWhenAllHaveCome) {
  BarrierBook book;
  const std::vector<int> members = {8, 9, 11};
  EXPECT_TRUE(book.arrive(6, 0, {8}, members, {8, 1}).empty());
  EXPECT_TRUE(book.arrive(6, 0, {9}, members, {9, 2}).empty());
  // Receive an early one of the next barrier, and another barrier. Expect that neither counts.
  EXPECT_TRUE(book.arrive(6, 0, {9}, members, {9, 3}).empty());
  EXPECT_TRUE(book.arrive(4, 0, {11}, {9, 11}, {11, 4}).empty());
  EXPECT_EQ(book.arrive(6, 0, {11}, members, {11, 5}).size(), 3u);
  EXPECT_TRUE(book.arrive(6, 0, {8}, members, {8, 6}).empty());
  EXPECT_EQ(book.arrive(6, 0, {11}, members, {11, 7}).size(), 3u);
}

TEST(BarrierBook, AProcessWithSeveralNodesIsToldOnce) {
  BarrierBook book;
  EXPECT_TRUE(book.arrive(6, 0, {8, 9}, {8, 9, 10, 11}, {9, 1}).empty());
  const auto released = book.arrive(6, 0, {10, 11}, {8, 9, 10, 11}, {11, 2});
  ASSERT_EQ(released.size(), 2u);
  EXPECT_EQ(released[0].ticket, 1);
  EXPECT_EQ(released[1].ticket, 2);
}

TEST(BarrierBook, CustomersThatShareANodeMeetTheirLike) {
  BarrierBook book;
  EXPECT_TRUE(book.arrive(4, 0, {9}, {9, 11}, {9, 1}).empty());
  EXPECT_TRUE(book.arrive(4, 2, {11}, {9, 11}, {11, 1}).empty());
  EXPECT_EQ(book.arrive(4, 2, {9}, {9, 11}, {9, 2}).size(), 2u);
}

TEST(BarrierBook, NobodyWaitsForANodeThatHasLeft) {
  BarrierBook book;
  const std::vector<int> members = {8, 9, 11};
  EXPECT_TRUE(book.arrive(6, 0, {8}, members, {8, 1}).empty());
  EXPECT_TRUE(book.arrive(6, 0, {11}, members, {11, 2}).empty());
  EXPECT_TRUE(book.arrive(2, 0, {8}, {8, 10}, {8, 3}).empty());
  book.leave(11);  // it came before it left
  EXPECT_TRUE(book.take_vain().empty());
  EXPECT_EQ(book.arrive(6, 0, {9}, members, {9, 4}).size(), 3u);
  // The next one it cannot come to; the barrier of servers goes on.
  EXPECT_TRUE(book.arrive(6, 0, {9}, members, {9, 5}).empty());
  const auto vain = book.take_vain();
  ASSERT_EQ(vain.size(), 1u);
  EXPECT_EQ(vain[0].arrival.ticket, 5);
  EXPECT_EQ(vain[0].left, 11);
  EXPECT_TRUE(book.take_vain().empty());
  EXPECT_EQ(book.arrive(2, 0, {10}, {8, 10}, {10, 6}).size(), 2u);
}

}  // namespace
}  // namespace penstock::pslite

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "engine/scheduler/collectives.h"
#include "engine/server/slice_round.h"
#include "engine/worker/slice_queue.h"

namespace penstock::test {
namespace {

using Arrival = SliceRound::Arrival;

TEST(SliceRound, IsFullWhenEveryLiveWorkerArrived) {
  SliceRound round;
  EXPECT_EQ(round.arrive(0, 0, SliceKind::kData), Arrival::kAccepted);
  EXPECT_FALSE(round.full(0b11));
  EXPECT_TRUE(round.full(0b01));
  EXPECT_EQ(round.arrive(1, 0, SliceKind::kNothing), Arrival::kAccepted);
  EXPECT_TRUE(round.full(0b11));
  EXPECT_EQ(round.contributors(0b11), 0b01U);  // worker 1 had nothing
}

TEST(SliceRound, IgnoresReplaysOfRetiredRoundsAndDuplicates) {
  SliceRound round;
  EXPECT_EQ(round.arrive(0, 0, SliceKind::kData), Arrival::kAccepted);
  EXPECT_EQ(round.arrive(0, 0, SliceKind::kData), Arrival::kDuplicate);
  round.retire();
  EXPECT_EQ(round.arrive(0, 0, SliceKind::kData), Arrival::kRetired);
  EXPECT_EQ(round.arrive(0, 3, SliceKind::kData), Arrival::kFuture);
}

TEST(SliceRound, KeepsTheNextRoundApart) {
  SliceRound round;
  EXPECT_EQ(round.arrive(0, 0, SliceKind::kData), Arrival::kAccepted);
  EXPECT_EQ(round.arrive(0, 1, SliceKind::kData), Arrival::kAccepted);
  EXPECT_EQ(round.next_round(0), 2U);
  EXPECT_EQ(round.next_round(1), 0U);
  EXPECT_EQ(round.arrive(1, 0, SliceKind::kData), Arrival::kAccepted);
  round.retire();
  EXPECT_EQ(round.next_round(0), 2U);
  EXPECT_EQ(round.next_round(1), 1U);
  EXPECT_FALSE(round.full(0b11));
}

TEST(SliceQueue, OrdersByPriorityThenRoundThenPosition) {
  SliceQueue queue;
  queue.push({0, 2, 10, 1});
  queue.push({0, 1, 20, 2});
  queue.push({0, 1, 15, 3});
  queue.push({5, 9, 99, 4});
  std::vector<std::uint32_t> order;
  for (; !queue.empty(); queue.pop()) order.push_back(queue.top().slice);
  EXPECT_EQ(order, (std::vector<std::uint32_t>{4, 3, 2, 1}));
}

std::vector<Member> two_workers() {
  return {{Role::kWorker, 0, 1, "a:1", "", ""}, {Role::kWorker, 1, 2, "b:2", "", ""}};
}

TEST(Collectives, AgreeWhenAllMadeTheSameCall) {
  Collectives collectives(two_workers());
  EXPECT_FALSE(collectives.add(0, 0, {}, 100).has_value());
  const auto outcome = collectives.add(1, 0, {}, 200);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->error.ok());
  EXPECT_EQ(outcome->waiting, (std::vector<Rank>{0, 1}));
}

TEST(Collectives, NameBothWhoDisagree) {
  Collectives collectives(two_workers());
  collectives.add(0, 0, {wire::CollectiveKind::Remove, {}, {4}}, 100);
  const auto outcome = collectives.add(1, 0, {}, 100);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->error.code(), Code::kMismatch);
  EXPECT_NE(outcome->error.what().find("a:1"), std::string::npos);
  EXPECT_NE(outcome->error.what().find("b:2"), std::string::npos);
}

TEST(Collectives, NameWhoIsMissingAtTheDeadline) {
  Collectives collectives(two_workers());
  collectives.add(0, 0, {}, 100);
  EXPECT_EQ(collectives.next_deadline_ns(), 100);
  EXPECT_TRUE(collectives.expire(99).empty());
  const auto expired = collectives.expire(100);
  ASSERT_EQ(expired.size(), 1U);
  EXPECT_EQ(expired[0].error.code(), Code::kTimeout);
  EXPECT_NE(expired[0].error.what().find("worker 1 (b:2)"), std::string::npos);
  // The late one is told at once.
  const auto late = collectives.add(1, 0, {}, 300);
  ASSERT_TRUE(late.has_value());
  EXPECT_EQ(late->error.code(), Code::kTimeout);
}

CollectiveCall share(Rank root, std::uint64_t size, std::vector<std::uint8_t> bytes = {}) {
  CollectiveCall call;
  call.kind = wire::CollectiveKind::Share;
  call.share.name = "id";
  call.share.root = root;
  call.share.size = size;
  call.share.bytes = std::move(bytes);
  return call;
}

TEST(Collectives, AnswerAShareWithTheBytesOfItsRoot) {
  Collectives collectives(two_workers());
  collectives.add(0, 0, share(1, 2), 100);
  const auto outcome = collectives.add(1, 0, share(1, 2, {7, 8}), 100);
  ASSERT_TRUE(outcome.has_value());
  ASSERT_TRUE(outcome->error.ok()) << outcome->error.to_string();
  EXPECT_EQ(outcome->call.share.bytes, (std::vector<std::uint8_t>{7, 8}));
}

TEST(Collectives, NameWhoSharesDifferently) {
  Collectives collectives(two_workers());
  collectives.add(0, 0, share(0, 2, {7, 8}), 100);
  const auto roots = collectives.add(1, 0, share(1, 2, {7, 8}), 100);
  ASSERT_TRUE(roots.has_value());
  EXPECT_EQ(roots->error.code(), Code::kMismatch);
  EXPECT_NE(roots->error.what().find("worker 0 (a:1) and worker 1 (b:2) disagree: share 'id': "
                                     "from worker 0 against worker 1"),
            std::string::npos)
      << roots->error.to_string();
  collectives.add(0, 1, share(0, 2, {7, 8}), 100);
  const auto sizes = collectives.add(1, 1, share(0, 3), 100);
  ASSERT_TRUE(sizes.has_value());
  EXPECT_NE(sizes->error.what().find("2 bytes against 3"), std::string::npos)
      << sizes->error.to_string();
}

TEST(Collectives, SayThatTheRootOfAShareLeft) {
  Collectives collectives(two_workers());
  collectives.add(0, 0, share(1, 2), 100);
  const auto outcomes = collectives.leave(1);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_EQ(outcomes[0].error.code(), Code::kPeerLost);
  EXPECT_NE(outcomes[0].error.what().find("worker 1 (b:2)"), std::string::npos);
}

TEST(Collectives, DoNotWaitForWhoLeft) {
  Collectives collectives(two_workers());
  collectives.add(0, 0, {}, 100);
  const auto outcomes = collectives.leave(1);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_TRUE(outcomes[0].error.ok());
}

}  // namespace
}  // namespace penstock::test

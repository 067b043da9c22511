// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// How connections end: by either owner, by failure, with posts outstanding.
#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

constexpr std::uint32_t kPosts = 40;

TEST_P(DeviceConformance, ClosingEndsBothSidesOnce) {
  const Link ends = link();
  ends.a.endpoint->close();
  ends.a.endpoint->close();  // idempotent
  EXPECT_FALSE(ends.a.endpoint->connected());
  ASSERT_TRUE(until_disconnected(ends.a));
  ASSERT_TRUE(until_disconnected(ends.b));
  EXPECT_EQ(ends.a.events(Event::kDisconnected)[0].completion.code, Code::kCancelled);
  EXPECT_EQ(ends.b.events(Event::kDisconnected)[0].completion.code, Code::kConnectionLost);
  EXPECT_EQ(ends.a.endpoint->status().code(), Code::kCancelled);
  EXPECT_EQ(ends.b.endpoint->status().code(), Code::kConnectionLost);
  EXPECT_FALSE(ends.b.endpoint->connected());
  ends.b.endpoint->close();
  EXPECT_EQ(ends.b.endpoint->status().code(), Code::kConnectionLost) << "the reason stays";
}

TEST_P(DeviceConformance, PostsAfterTheEndAreRefusedWithItsReason) {
  const Link ends = link();
  ends.a.endpoint->close();
  EXPECT_EQ(post(ends.a, immediate_request(1, 1)).code(), Code::kCancelled);
  ASSERT_TRUE(until_disconnected(ends.a));
  ASSERT_TRUE(until_disconnected(ends.b));
  EXPECT_EQ(post(ends.a, immediate_request(1, 1)).code(), Code::kCancelled);
  EXPECT_EQ(post(ends.b, immediate_request(1, 1)).code(), Code::kConnectionLost);
  EXPECT_EQ(ends.a.endpoint->send_free(), 0U);
}

TEST_P(DeviceConformance, BothSidesMayCloseAtOnce) {
  const Link ends = link();
  ends.a.endpoint->close();
  ends.b.endpoint->close();
  ASSERT_TRUE(until_disconnected(ends.a));
  ASSERT_TRUE(until_disconnected(ends.b));
  EXPECT_EQ(ends.a.endpoint->status().code(), Code::kCancelled);
  EXPECT_EQ(ends.b.endpoint->status().code(), Code::kCancelled);
}

TEST_P(DeviceConformance, ClosingCompletesWhatIsOutstanding) {
  Lane& deaf = add_lane(b(), 2);
  const Link ends = link(lane_a(), deaf);
  deaf.paused = true;
  for (std::uint32_t i = 0; i < kPosts; ++i)
    ASSERT_EQ(post(ends.a, immediate_request(i, i)).to_string(), "ok");
  ends.a.endpoint->close();
  ASSERT_TRUE(until_disconnected(ends.a));
  const std::vector<Completion> done = ends.a.done();
  ASSERT_EQ(done.size(), kPosts);
  EXPECT_EQ(done.back().code, Code::kCancelled);
  for (const Completion& each : done)
    EXPECT_TRUE(each.code == Code::kOk || each.code == Code::kCancelled) << code_name(each.code);
  deaf.paused = false;
  ASSERT_TRUE(until_disconnected(ends.b));
  std::uint32_t expected = 0;  // what did arrive is the beginning, in order
  for (const Lane::Seen& seen : ends.b.events(Event::kImmediate))
    EXPECT_EQ(seen.completion.immediate, expected++);
}

TEST_P(DeviceConformance, APeerThatClosesFailsWhatIsOutstanding) {
  Lane& deaf = add_lane(b(), 2);
  const Link ends = link(lane_a(), deaf);
  deaf.paused = true;
  for (std::uint32_t i = 0; i < kPosts; ++i)
    ASSERT_EQ(post(ends.a, immediate_request(i, i)).to_string(), "ok");
  ends.b.endpoint->close();
  deaf.paused = false;
  ASSERT_TRUE(until_disconnected(ends.a));
  ASSERT_EQ(ends.a.done().size(), kPosts);
  EXPECT_EQ(ends.a.done().back().code, Code::kConnectionLost);
  EXPECT_EQ(ends.a.endpoint->status().code(), Code::kConnectionLost);
}

TEST_P(DeviceConformance, APeerThatIsDestroyedFailsWhatIsOutstanding) {
  Lane& deaf = add_lane(b(), 2);
  const Link ends = link(lane_a(), deaf);
  deaf.paused = true;
  for (std::uint32_t i = 0; i < kPosts; ++i)
    ASSERT_EQ(post(ends.a, immediate_request(i, i)).to_string(), "ok");
  drop(ends.b);
  deaf.paused = false;
  ASSERT_TRUE(until_disconnected(ends.a));
  ASSERT_EQ(ends.a.done().size(), kPosts);
  EXPECT_EQ(ends.a.done().back().code, Code::kConnectionLost);
}

TEST_P(DeviceConformance, AWholeDeviceMayDieInTheMiddle) {
  Device& victim = add_device();
  Lane& lane = add_lane(victim, 8);
  const Link doomed = link(lane_a(), lane);
  const Link bystander = link();
  Memory& from = memory(a(), 300'000, Access::kLocal);
  Memory& to = memory(victim, 300'000, Access::kRemoteWrite);
  lane.paused = true;
  for (std::uint32_t i = 0; i < kPosts; ++i) {
    WorkRequest request = write_request(from, to, i);
    request.has_immediate = true;
    ASSERT_EQ(post(doomed.a, request).to_string(), "ok");
  }
  for (int i = 0; i < 3; ++i) lane_a().pump();
  remove_device(victim);
  fill_pattern(to.bytes, 1);
  ASSERT_TRUE(until_disconnected(doomed.a));
  EXPECT_EQ(doomed.a.done().back().code, Code::kConnectionLost);
  EXPECT_TRUE(has_pattern(to.bytes, 1)) << "bytes landed in memory that was deregistered";
  expect_alive(bystander);
}

TEST_P(DeviceConformance, DestroyingAnEndpointDropsItsOwnCompletionsOnly) {
  const Link dropped = link();
  const Link kept = link();
  for (std::uint32_t i = 0; i < 10; ++i) {
    ASSERT_EQ(post(dropped.a, immediate_request(i, i)).to_string(), "ok");
    ASSERT_EQ(post(kept.a, immediate_request(i, i)).to_string(), "ok");
  }
  drop(dropped.a);
  ASSERT_TRUE(until_done(kept.a));
  ASSERT_TRUE(until([&] { return kept.b.count(Event::kImmediate) == 10; }));
  ASSERT_TRUE(until_disconnected(dropped.b));
  EXPECT_EQ(dropped.b.endpoint->status().code(), Code::kConnectionLost);
  expect_alive(kept);  // the teardown fails on any event of the dropped one
}

TEST_P(DeviceConformance, WhatArrivedBeforeTheEndIsSeenBeforeTheEnd) {
  const Link ends = link();
  Memory& from = memory(a(), 5'000, Access::kLocal);
  Memory& to = memory(b(), 5'000, Access::kRemoteWrite);
  fill_pattern(from.bytes, 1);
  WorkRequest request = write_request(from, to, 1);
  request.has_immediate = true;
  ASSERT_EQ(post(ends.a, request).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  ends.a.endpoint->close();
  ASSERT_TRUE(until_disconnected(ends.b));
  // The write had completed, so it was applied; its immediate is not lost by the close.
  EXPECT_EQ(ends.b.count(Event::kImmediate), 1U);
  EXPECT_TRUE(has_pattern(to.bytes, 1));
}

TEST_P(DeviceConformance, ANewConnectionReplacesALostOne) {
  for (int i = 0; i < 5; ++i) {
    const Link ends = link();
    expect_alive(ends);
    (i % 2 == 0 ? ends.a : ends.b).endpoint->close();
    ASSERT_TRUE(until_disconnected(ends.a));
    ASSERT_TRUE(until_disconnected(ends.b));
    drop(ends.a);
    drop(ends.b);
  }
}

TEST_P(DeviceConformance, DeregisteringBetweenWritesFailsTheNextOne) {
  const Link ends = link();
  Memory& from = memory(a(), 10'000, Access::kLocal);
  Memory& to = memory(b(), 10'000, Access::kRemoteWrite);
  fill_pattern(from.bytes, 1);
  for (std::uint32_t i = 0; i < kPosts; ++i)
    ASSERT_EQ(post(ends.a, write_request(from, to, i)).to_string(), "ok");
  to.region.reset();  // some have landed, perhaps; from here on none does
  fill_pattern(to.bytes, 2);
  (void)post(ends.a, write_request(from, to, kPosts));  // refused only if it knows already
  ASSERT_TRUE(until_disconnected(ends.a));
  EXPECT_TRUE(has_pattern(to.bytes, 2));
  EXPECT_EQ(ends.a.done().back().code == Code::kOk, false);
  expect_refusal(ends.a.endpoint->status().code(), Code::kStale);
}

}  // namespace
}  // namespace penstock::test

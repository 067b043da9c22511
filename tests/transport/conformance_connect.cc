// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// How two endpoints meet, and how they fail to.
#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

EndpointOptions with_token(const Token& token) {
  EndpointOptions options;
  options.token = token;
  return options;
}

TEST_P(DeviceConformance, BothEndsSayConnectedAndMoveBytes) {
  const Link ends = link();
  EXPECT_EQ(ends.a.endpoint->status().to_string(), "ok");
  EXPECT_EQ(ends.a.endpoint->send_free(), EndpointOptions{}.send_depth);
  expect_alive(ends);
}

TEST_P(DeviceConformance, NothingCanBePostedBeforeItIsConnected) {
  End& waiting = accept(lane_b(), with_token(random_token()));
  EXPECT_FALSE(waiting.endpoint->connected());
  EXPECT_FALSE(waiting.endpoint->status().ok());
  EXPECT_EQ(waiting.endpoint->send_free(), 0U);
  EXPECT_FALSE(waiting.endpoint->post(immediate_request(1, 1)).ok());
  for (int i = 0; i < 10; ++i) lane_b().pump();
  EXPECT_EQ(waiting.count(Event::kConnected), 0U);
}

TEST_P(DeviceConformance, AWrongTokenIsRefusedAndTheRightOneStillServes) {
  const Token right = random_token();
  End& waiting = accept(lane_b(), with_token(right));
  Token wrong = right;
  wrong[15] ^= 1;
  End& stranger = connect(lane_a(), b().address(), with_token(wrong));
  ASSERT_TRUE(until_disconnected(stranger));
  EXPECT_EQ(stranger.count(Event::kConnected), 0U);
  EXPECT_FALSE(stranger.endpoint->status().ok());
  EXPECT_EQ(waiting.count(Event::kConnected) + waiting.count(Event::kDisconnected), 0U);
  End& friendly = connect(lane_a(), b().address(), with_token(right));
  ASSERT_TRUE(until([&] { return friendly.endpoint->connected(); }));
  ASSERT_TRUE(until([&] { return waiting.endpoint->connected(); }));
  expect_alive({friendly, waiting});
}

TEST_P(DeviceConformance, ATokenServesOnce) {
  const Token token = random_token();
  End& waiting = accept(lane_b(), with_token(token));
  End& first = connect(lane_a(), b().address(), with_token(token));
  ASSERT_TRUE(until([&] { return first.endpoint->connected() && waiting.endpoint->connected(); }));
  End& second = connect(lane_a(), b().address(), with_token(token));
  ASSERT_TRUE(until_disconnected(second));
  EXPECT_EQ(second.count(Event::kConnected), 0U);
  expect_alive({first, waiting});
}

TEST_P(DeviceConformance, EachConnectorMeetsTheEndThatNamesItsToken) {
  const Token one = random_token();
  const Token other = random_token();
  End& waiting_one = accept(lane_b(), with_token(one));
  End& waiting_other = accept(lane_b(), with_token(other));
  End& to_other = connect(lane_a(), b().address(), with_token(other));
  End& to_one = connect(lane_a(), b().address(), with_token(one));
  ASSERT_TRUE(
      until([&] { return to_one.endpoint->connected() && to_other.endpoint->connected(); }));
  ASSERT_TRUE(until(
      [&] { return waiting_one.endpoint->connected() && waiting_other.endpoint->connected(); }));
  expect_alive({to_one, waiting_one});
  expect_alive({to_other, waiting_other});
}

TEST_P(DeviceConformance, AcceptingEndsAtItsDeadline) {
  const Token token = random_token();
  EndpointOptions options = with_token(token);
  options.deadline_ns = harness().clock().now_ns() + 30 * kMillisecond;
  End& waiting = accept(lane_b(), options);
  ASSERT_TRUE(until_disconnected(waiting));
  EXPECT_GE(harness().clock().now_ns(), options.deadline_ns);
  EXPECT_EQ(waiting.events(Event::kDisconnected)[0].completion.code, Code::kTimeout);
  EXPECT_EQ(waiting.endpoint->status().code(), Code::kTimeout);
  // Who comes late meets nobody.
  End& late = connect(lane_a(), b().address(), with_token(token));
  ASSERT_TRUE(until_disconnected(late));
  EXPECT_EQ(late.count(Event::kConnected), 0U);
}

TEST_P(DeviceConformance, ADeadlineDoesNotEndAConnectedEndpoint) {
  EndpointOptions options;
  options.deadline_ns = harness().clock().now_ns() + harness().connects_within_ns();
  const Link ends = link(options);
  ASSERT_TRUE(until([&] { return harness().clock().now_ns() > options.deadline_ns; }));
  expect_alive(ends);
}

TEST_P(DeviceConformance, ConnectingToADeviceThatIsGoneEnds) {
  Device& gone = add_device();
  const std::string address = gone.address();
  remove_device(gone);
  EndpointOptions options = with_token(random_token());
  options.deadline_ns = harness().clock().now_ns() + 50 * kMillisecond;
  End& end = connect(lane_a(), address, options);
  ASSERT_TRUE(until_disconnected(end));
  EXPECT_FALSE(end.endpoint->status().ok());
  EXPECT_EQ(end.count(Event::kConnected), 0U);
  EXPECT_FALSE(end.endpoint->post(immediate_request(1, 1)).ok());
  expect_alive(link());
}

TEST_P(DeviceConformance, ConnectingToNonsenseFailsAtOnceOrSoon) {
  for (const char* address : {"", "nonsense", "tcp:", "loopback:", "tcp:127.0.0.1:99999"}) {
    EndpointOptions options = with_token(random_token());
    options.deadline_ns = harness().clock().now_ns() + 50 * kMillisecond;
    Result<std::unique_ptr<Endpoint>> refused = a().connect(*lane_a().queue, address, options);
    if (!refused.ok()) continue;
    ASSERT_TRUE(until([&] {
      return refused.value()->status().code() != Code::kOk &&
             harness().clock().now_ns() > options.deadline_ns;
    }));
    EXPECT_FALSE(refused.value()->connected()) << address;
  }
}

TEST_P(DeviceConformance, AnEndThatNoLongerWaitsIsNotMet) {
  const Token token = random_token();
  End& waiting = accept(lane_b(), with_token(token));
  waiting.endpoint->close();
  ASSERT_TRUE(until_disconnected(waiting));
  EXPECT_EQ(waiting.events(Event::kDisconnected)[0].completion.code, Code::kCancelled);
  End& late = connect(lane_a(), b().address(), with_token(token));
  ASSERT_TRUE(until_disconnected(late));
  EXPECT_EQ(late.count(Event::kConnected), 0U);
}

TEST_P(DeviceConformance, DestroyingAWaitingEndIsQuiet) {
  const Token token = random_token();
  End& waiting = accept(lane_b(), with_token(token));
  drop(waiting);
  End& late = connect(lane_a(), b().address(), with_token(token));
  ASSERT_TRUE(until_disconnected(late));
}

TEST_P(DeviceConformance, ConnectingMayBeGivenUp) {
  const Token token = random_token();
  End& waiting = accept(lane_b(), with_token(token));
  End& hasty = connect(lane_a(), b().address(), with_token(token));
  hasty.endpoint->close();
  ASSERT_TRUE(until_disconnected(hasty));
  EXPECT_EQ(hasty.events(Event::kDisconnected)[0].completion.code, Code::kCancelled);
  EXPECT_EQ(waiting.count(Event::kConnected), waiting.count(Event::kDisconnected));
}

}  // namespace
}  // namespace penstock::test

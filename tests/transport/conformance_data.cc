// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Bytes, immediates and messages: what arrives, when, and in which order.
#include <cstring>

#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

TEST_P(DeviceConformance, AWriteIsAppliedWhenItCompletes) {
  const Link ends = link();
  Memory& from = memory(a(), 10'007, Access::kLocal);
  Memory& to = memory(b(), 10'007, Access::kRemoteWrite);
  fill_pattern(from.bytes, 1);
  bool applied = false;
  lane_a().on_event = [&](const Completion& event) {
    if (event.event == Event::kWriteDone) applied = has_pattern(to.bytes, 1);
  };
  ASSERT_EQ(post(ends.a, write_request(from, to, 42)).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  EXPECT_TRUE(applied);
  const Completion done = ends.a.done()[0];
  EXPECT_EQ(done.event, Event::kWriteDone);
  EXPECT_EQ(done.code, Code::kOk);
  EXPECT_EQ(done.tag, 42U);
  EXPECT_EQ(done.length, 10'007U);
  EXPECT_EQ(ends.b.count(Event::kImmediate), 0U);
}

TEST_P(DeviceConformance, OffsetsCountFromTheStartOfEachRegion) {
  const Link ends = link();
  Memory& from = memory(a(), 100, Access::kLocal);
  Memory& to = memory(b(), 100, Access::kRemoteWrite);
  fill_pattern(from.bytes, 2);
  WorkRequest request = write_request(from, to, 1);
  request.local_offset = 10;
  request.remote_offset = 63;
  request.length = 37;  // the last bytes of the region
  ASSERT_EQ(post(ends.a, request).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  EXPECT_EQ(ends.a.done()[0].code, Code::kOk);
  EXPECT_TRUE(all_zero(std::span(to.bytes).first(63)));
  EXPECT_EQ(std::memcmp(&to.bytes[63], &from.bytes[10], 37), 0);
}

TEST_P(DeviceConformance, AnImmediateComesAfterTheBytesOfItsWrite) {
  const Link ends = link();
  Memory& from = memory(a(), 100'003, Access::kLocal);
  Memory& to = memory(b(), 100'003, Access::kRemoteWrite);
  fill_pattern(from.bytes, 3);
  bool landed = false;
  lane_b().on_event = [&](const Completion& event) {
    if (event.event == Event::kImmediate) landed = has_pattern(to.bytes, 3);
  };
  WorkRequest request = write_request(from, to, 1);
  request.has_immediate = true;
  request.immediate = 0xdeadbeef;
  ASSERT_EQ(post(ends.a, request).to_string(), "ok");
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kImmediate) == 1; }));
  EXPECT_TRUE(landed);
  const Completion arrived = ends.b.events(Event::kImmediate)[0].completion;
  EXPECT_EQ(arrived.immediate, 0xdeadbeefU);
  EXPECT_EQ(arrived.length, 100'003U);
  EXPECT_EQ(arrived.code, Code::kOk);
}

TEST_P(DeviceConformance, AnImmediateComesAfterAllEarlierWrites) {
  constexpr std::size_t kWrites = 20;
  const Link ends = link();
  Memory& from = memory(a(), 7'001, Access::kLocal);
  fill_pattern(from.bytes, 4);
  std::vector<Memory*> targets;
  for (std::size_t i = 0; i < kWrites; ++i) {
    targets.push_back(&memory(b(), 7'001, Access::kRemoteWrite));
    ASSERT_EQ(post(ends.a, write_request(from, *targets[i], i)).to_string(), "ok");
  }
  bool all_landed = false;
  lane_b().on_event = [&](const Completion& event) {
    if (event.event != Event::kImmediate) return;
    all_landed = true;
    for (const Memory* target : targets) all_landed &= has_pattern(target->bytes, 4);
  };
  // Receive a zero-length write with an immediate behind them.
  ASSERT_EQ(post(ends.a, immediate_request(7, kWrites)).to_string(), "ok");
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kImmediate) == 1; }));
  EXPECT_TRUE(all_landed);
}

TEST_P(DeviceConformance, UnorderedWritesArriveWholeAndOnceAndLeaveTheOthersInOrder) {
  constexpr std::uint32_t kWrites = 90;
  constexpr std::size_t kBytes = 5'003;
  const Link ends = link();
  Memory& from = memory(a(), kBytes, Access::kLocal);
  Memory& to = memory(b(), kWrites * kBytes, Access::kRemoteWrite);
  fill_pattern(from.bytes, 12);
  std::vector<int> arrived(kWrites, 0);
  std::uint32_t ordered = 0;
  bool whole = true, in_order = true;
  lane_b().on_event = [&](const Completion& event) {
    if (event.event != Event::kImmediate) return;
    ++arrived[event.immediate];
    whole &= has_pattern(std::span(to.bytes).subspan(event.immediate * kBytes, kBytes), 12);
    if (event.immediate % 3 == 0) in_order &= event.immediate == 3 * ordered++;
  };
  for (std::uint32_t i = 0; i < kWrites; ++i) {  // every third is ordered
    WorkRequest request = write_request(from, to, i);
    request.remote_offset = i * kBytes;
    request.has_immediate = true;
    request.immediate = i;
    request.unordered = i % 3 != 0;
    ASSERT_EQ(post(ends.a, request).to_string(), "ok");
  }
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kImmediate) == kWrites; }));
  ASSERT_TRUE(until_done(ends.a));  // the teardown compares the tags: completions keep the order
  EXPECT_EQ(arrived, std::vector<int>(kWrites, 1));
  EXPECT_TRUE(whole);
  EXPECT_TRUE(in_order);
}

TEST_P(DeviceConformance, AnImmediateAloneNeedsNoMemory) {
  const Link ends = link();
  ASSERT_EQ(post(ends.a, immediate_request(0, 5)).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kImmediate) == 1; }));
  EXPECT_EQ(ends.b.events(Event::kImmediate)[0].completion.immediate, 0U);
  EXPECT_EQ(ends.b.events(Event::kImmediate)[0].completion.length, 0U);
  EXPECT_EQ(ends.a.done()[0].length, 0U);
}

TEST_P(DeviceConformance, AnEmptyWriteCompletesAndNobodyNotices) {
  const Link ends = link();
  WorkRequest nothing;
  nothing.tag = 9;
  ASSERT_EQ(post(ends.a, nothing).to_string(), "ok");
  ASSERT_EQ(post(ends.a, immediate_request(1, 10)).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kImmediate) == 1; }));
  EXPECT_EQ(ends.a.done()[0].code, Code::kOk);
}

TEST_P(DeviceConformance, AReadBringsTheBytesHere) {
  const Link ends = link();
  Memory& into = memory(a(), 50'021, Access::kLocal);
  Memory& from = memory(b(), 50'021, Access::kRemoteRead);
  fill_pattern(from.bytes, 5);
  bool here = false;
  lane_a().on_event = [&](const Completion& event) {
    if (event.event == Event::kReadDone) here = has_pattern(into.bytes, 5);
  };
  ASSERT_EQ(post(ends.a, read_request(into, from, 77)).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  EXPECT_TRUE(here);
  EXPECT_EQ(ends.a.done()[0].event, Event::kReadDone);
  EXPECT_EQ(ends.a.done()[0].code, Code::kOk);
  EXPECT_EQ(ends.a.done()[0].tag, 77U);
  EXPECT_EQ(ends.a.done()[0].length, 50'021U);
}

TEST_P(DeviceConformance, AReadSeesTheWritesPostedBeforeIt) {
  const Link ends = link();
  Memory& from = memory(a(), 3'000, Access::kLocal);
  Memory& there = memory(b(), 3'000, Access::kRemoteReadWrite);
  Memory& back = memory(a(), 3'000, Access::kLocal);
  fill_pattern(from.bytes, 6);
  const std::array work{write_request(from, there, 1), read_request(back, there, 2)};
  ASSERT_EQ(post(ends.a, work).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  EXPECT_TRUE(has_pattern(back.bytes, 6));
}

TEST_P(DeviceConformance, MessagesArriveWholeAndInOrder) {
  const Link ends = link();
  const std::uint32_t longest = a().capabilities().max_message_bytes;
  ASSERT_GE(longest, 4096U);  // a page on every transport: what the engine frames messages in
  Memory& from = memory(a(), longest, Access::kLocal);
  fill_pattern(from.bytes, 7);
  const std::array<std::uint32_t, 4> lengths{1, longest, 0, longest / 2 + 1};
  for (std::size_t i = 0; i < lengths.size(); ++i)
    ASSERT_EQ(post(ends.a, send_request(from, lengths[i], i)).to_string(), "ok");
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kMessage) == lengths.size(); }));
  ASSERT_TRUE(until_done(ends.a));
  const std::vector<Lane::Seen> messages = ends.b.events(Event::kMessage);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    ASSERT_EQ(messages[i].message.size(), lengths[i]);
    EXPECT_EQ(std::memcmp(messages[i].message.data(), from.bytes.data(), lengths[i]), 0);
    EXPECT_EQ(ends.a.done()[i].event, Event::kSendDone);
  }
}

TEST_P(DeviceConformance, WritesReadsAndMessagesCompleteInTheOrderOfTheirPosts) {
  const Link ends = link();
  Memory& from = memory(a(), 4'000, Access::kRemoteReadWrite);
  Memory& there = memory(b(), 4'000, Access::kRemoteReadWrite);
  for (std::uint64_t i = 0; i < 120; i += 3) {
    const std::array work{write_request(from, there, i), read_request(from, there, i + 1),
                          send_request(from, 64, i + 2)};
    ASSERT_EQ(post(ends.a, work).to_string(), "ok");
  }
  ASSERT_TRUE(until_done(ends.a));  // the teardown compares the tags
  EXPECT_EQ(ends.a.done().back().code, Code::kOk);
}

TEST_P(DeviceConformance, BothDirectionsAtOnce) {
  const Link ends = link();
  Memory& here = memory(a(), 200'000, Access::kLocal);
  Memory& there = memory(b(), 200'000, Access::kLocal);
  Memory& into_a = memory(a(), 200'000, Access::kRemoteWrite);
  Memory& into_b = memory(b(), 200'000, Access::kRemoteWrite);
  fill_pattern(here.bytes, 8);
  fill_pattern(there.bytes, 9);
  for (std::uint64_t i = 0; i < 50; ++i) {
    ASSERT_EQ(post(ends.a, write_request(here, into_b, i)).to_string(), "ok");
    ASSERT_EQ(post(ends.b, write_request(there, into_a, i)).to_string(), "ok");
  }
  ASSERT_TRUE(until_done(ends.a));
  ASSERT_TRUE(until_done(ends.b));
  EXPECT_TRUE(has_pattern(into_b.bytes, 8));
  EXPECT_TRUE(has_pattern(into_a.bytes, 9));
}

TEST_P(DeviceConformance, SixtyFourMebibytesInOddPieces) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  const Link ends = link();
  Memory& from = memory(a(), kBytes, Access::kLocal);
  Memory& to = memory(b(), kBytes, Access::kRemoteWrite);
  fill_pattern(from.bytes, 10);
  const std::array<std::size_t, 5> pieces{4'097, 1'048'583, 1, 3'333'333, 65'521};
  std::size_t posted = 0;
  for (std::size_t i = 0; posted < kBytes; ++i) {
    WorkRequest request = write_request(from, to, i);
    request.local_offset = request.remote_offset = posted;
    request.length = std::min(pieces[i % pieces.size()], kBytes - posted);
    posted += request.length;
    request.has_immediate = posted == kBytes;
    ASSERT_EQ(post(ends.a, request).to_string(), "ok");
  }
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kImmediate) == 1; }));
  EXPECT_TRUE(has_pattern(to.bytes, 10));
  ASSERT_TRUE(until_done(ends.a));
}

TEST_P(DeviceConformance, ManyEndpointsShareOneQueue) {
  constexpr std::uint32_t kEnds = 64;
  std::vector<Link> links;
  for (std::uint32_t i = 0; i < kEnds; ++i) links.push_back(link());
  Memory& to = memory(b(), kEnds * 1'000, Access::kRemoteWrite);
  for (std::uint32_t i = 0; i < kEnds; ++i) {
    Memory& from = memory(a(), 1'000, Access::kLocal);
    fill_pattern(from.bytes, 100 + i);
    WorkRequest request = write_request(from, to, i);
    request.remote_offset = std::uint64_t{i} * 1'000;
    request.has_immediate = true;
    request.immediate = i;
    ASSERT_EQ(post(links[i].a, request).to_string(), "ok");
  }
  for (std::uint32_t i = 0; i < kEnds; ++i) {
    ASSERT_TRUE(until([&] { return links[i].b.count(Event::kImmediate) == 1; }));
    EXPECT_EQ(links[i].b.events(Event::kImmediate)[0].completion.immediate, i);
    EXPECT_TRUE(has_pattern(std::span(to.bytes).subspan(i * 1'000, 1'000), 100 + i));
  }
}

TEST_P(DeviceConformance, TwoEndpointsOfOneQueueMayFaceEachOther) {
  Lane& other = add_lane(a());
  expect_alive(link(lane_a(), other));     // within one device
  expect_alive(link(lane_a(), lane_a()));  // and within one queue
}

TEST_P(DeviceConformance, ArrivalsWaitForRoomAndNoneIsLost) {
  constexpr std::uint32_t kArrivals = 100;
  Lane& small = add_lane(b(), 4);
  small.batch = 3;
  const Link ends = link(lane_a(), small);
  Memory& from = memory(a(), 16, Access::kLocal);
  // Nobody polls the receiver while more is posted than its queue holds.
  small.paused = true;
  for (std::uint32_t i = 0; i < kArrivals; ++i) {
    ASSERT_EQ(
        post(ends.a, i % 5 == 4 ? send_request(from, 16, i) : immediate_request(i, i)).to_string(),
        "ok");
  }
  for (int i = 0; i < 50; ++i) lane_a().pump();
  small.paused = false;
  ASSERT_TRUE(until_done(ends.a));
  ASSERT_TRUE(until([&] {
    return ends.b.count(Event::kImmediate) + ends.b.count(Event::kMessage) == kArrivals;
  }));
  std::uint32_t expected = 0;
  for (const Lane::Seen& seen : ends.b.events(Event::kImmediate)) {
    EXPECT_EQ(seen.completion.immediate, expected);
    expected += expected % 5 == 3 ? 2 : 1;
  }
}

}  // namespace
}  // namespace penstock::test

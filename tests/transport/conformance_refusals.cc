// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What post() refuses, and what the peer's memory refuses.
#include <limits>

#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

TEST_P(DeviceConformance, ABatchIsPostedWholeOrNotAtAll) {
  EndpointOptions options;
  options.send_depth = 4;
  const Link ends = link(options);
  const std::array work{immediate_request(0, 0), immediate_request(1, 1), immediate_request(2, 2),
                        immediate_request(3, 3), immediate_request(4, 4)};
  EXPECT_EQ(post(ends.a, work).code(), Code::kExhausted);
  EXPECT_EQ(ends.a.endpoint->send_free(), 4U);
  ASSERT_EQ(post(ends.a, std::span(work).first(3)).to_string(), "ok");
  EXPECT_EQ(ends.a.endpoint->send_free(), 1U);
  EXPECT_EQ(post(ends.a, std::span(work).subspan(3)).code(), Code::kExhausted);
  ASSERT_EQ(post(ends.a, work[3]).to_string(), "ok");
  ASSERT_TRUE(until([&] { return ends.b.count(Event::kImmediate) == 4; }));
  EXPECT_EQ(ends.b.events(Event::kImmediate)[3].completion.immediate, 3U);
}

TEST_P(DeviceConformance, TheSendDepthIsExactAndComesBack) {
  EndpointOptions options;
  options.send_depth = 7;
  const Link ends = link(options);
  for (std::uint32_t round = 0; round < 5; ++round) {
    EXPECT_EQ(ends.a.endpoint->send_free(), 7U);
    for (std::uint32_t i = 0; i < 7; ++i) {
      ASSERT_EQ(post(ends.a, immediate_request(i, round * 7 + i)).to_string(), "ok");
      EXPECT_EQ(ends.a.endpoint->send_free(), 6 - i);
    }
    EXPECT_EQ(post(ends.a, immediate_request(7, 7)).code(), Code::kExhausted);
    ASSERT_TRUE(until_done(ends.a));
  }
}

TEST_P(DeviceConformance, PostingNothingIsFine) {
  const Link ends = link();
  EXPECT_EQ(post(ends.a, std::span<const WorkRequest>()).to_string(), "ok");
  EXPECT_EQ(ends.a.endpoint->send_free(), EndpointOptions{}.send_depth);
}

TEST_P(DeviceConformance, RefusesLocalBytesOutsideTheirRegion) {
  Memory& from = memory(a(), 100, Access::kLocal);
  Memory& to = memory(b(), 1'000, Access::kRemoteWrite);
  WorkRequest bad = write_request(from, to, 5);
  bad.length = 101;
  expect_malformed(bad);
  bad.length = 50;
  bad.local_offset = 51;
  expect_malformed(bad);
  bad.local_offset = std::numeric_limits<std::uint64_t>::max() - 9;  // offset + length wraps
  expect_malformed(bad);
  bad.local_offset = 0;
  bad.length = std::numeric_limits<std::uint64_t>::max();
  expect_malformed(bad);
  bad.local = nullptr;
  bad.length = 1;
  expect_malformed(bad);
  EXPECT_TRUE(all_zero(to.bytes));
}

TEST_P(DeviceConformance, RefusesAReadIntoBytesOutsideTheirRegion) {
  Memory& into = memory(a(), 100, Access::kLocal);
  Memory& from = memory(b(), 1'000, Access::kRemoteRead);
  WorkRequest bad = read_request(into, from, 5);
  bad.length = 101;
  expect_malformed(bad);
}

TEST_P(DeviceConformance, RefusesAMessageThatIsTooLong) {
  const std::uint32_t longest = harness().longest_message(a());
  Memory& from = memory(a(), longest + 1, Access::kLocal);
  expect_malformed(send_request(from, longest + 1, 5));
}

TEST_P(DeviceConformance, RefusesAWriteWithoutARemoteRegion) {
  Memory& from = memory(a(), 100, Access::kLocal);
  Memory& to = memory(b(), 100, Access::kRemoteWrite);
  WorkRequest bad = write_request(from, to, 5);
  bad.remote = nullptr;
  expect_malformed(bad);
}

TEST_P(DeviceConformance, RefusesBytesBeyondTheEndOfTheRemoteRegion) {
  Memory& from = memory(a(), 1'000, Access::kLocal);
  Memory& to = memory(b(), 100, Access::kRemoteReadWrite);
  RemoteRegion forged = to.remote;
  forged.length = 1U << 30;  // what the poster claims is not believed
  WorkRequest bad = write_request(from, to, 5);
  bad.has_immediate = true;
  bad.remote = &forged;
  bad.length = 101;
  fill_pattern(from.bytes, 1);
  expect_violation(link(), bad, Code::kAccess);
  bad.length = 1;
  bad.remote_offset = 100;
  expect_violation(link(), bad, Code::kAccess);
  bad.opcode = Opcode::kRead;
  bad.has_immediate = false;
  bad.remote_offset = 0;
  bad.length = 101;
  expect_violation(link(), bad, Code::kAccess);
  EXPECT_TRUE(all_zero(to.bytes));
  EXPECT_TRUE(has_pattern(from.bytes, 1));
}

TEST_P(DeviceConformance, RefusesOffsetsThatWrapAround) {
  Memory& from = memory(a(), 1'000, Access::kLocal);
  Memory& to = memory(b(), 1'000, Access::kRemoteWrite);
  fill_pattern(from.bytes, 1);
  WorkRequest bad = write_request(from, to, 5);
  bad.length = 16;
  for (const std::uint64_t offset :
       {std::numeric_limits<std::uint64_t>::max() - 7,
        std::numeric_limits<std::uint64_t>::max() - 15, std::uint64_t{1} << 63}) {
    bad.remote_offset = offset;
    expect_violation(link(), bad, Code::kAccess);
  }
  EXPECT_TRUE(all_zero(to.bytes));
}

TEST_P(DeviceConformance, RefusesAccessThatWasNotGiven) {
  Memory& here = memory(a(), 64, Access::kLocal);
  Memory& local = memory(b(), 64, Access::kLocal);
  Memory& read_only = memory(b(), 64, Access::kRemoteRead);
  Memory& write_only = memory(b(), 64, Access::kRemoteWrite);
  fill_pattern(here.bytes, 1);
  expect_violation(link(), write_request(here, local, 1), Code::kAccess);
  expect_violation(link(), read_request(here, local, 1), Code::kAccess);
  expect_violation(link(), write_request(here, read_only, 1), Code::kAccess);
  expect_violation(link(), read_request(here, write_only, 1), Code::kAccess);
  EXPECT_TRUE(all_zero(local.bytes));
  EXPECT_TRUE(all_zero(read_only.bytes));
  EXPECT_TRUE(has_pattern(here.bytes, 1));
}

TEST_P(DeviceConformance, RefusesTheRegionOfAnotherScope) {
  EndpointOptions theirs;
  theirs.scope = 7;
  Memory& here = memory(a(), 64, Access::kLocal);
  Memory& shared = memory(b(), 64, Access::kRemoteWrite, kAnyScope);
  Memory& own = memory(b(), 64, Access::kRemoteWrite, 7);
  Memory& foreign = memory(b(), 64, Access::kRemoteWrite, 8);
  fill_pattern(here.bytes, 1);
  // The scope that counts is the one the region's owner gave the endpoint.
  const Link ends = link(lane_a(), lane_b(), {}, theirs);
  ASSERT_EQ(post(ends.a, write_request(here, shared, 1)).to_string(), "ok");
  ASSERT_EQ(post(ends.a, write_request(here, own, 2)).to_string(), "ok");
  ASSERT_TRUE(until_done(ends.a));
  EXPECT_TRUE(has_pattern(shared.bytes, 1));
  EXPECT_TRUE(has_pattern(own.bytes, 1));
  expect_violation(ends, write_request(here, foreign, 3), Code::kAccess);
  EXPECT_TRUE(all_zero(foreign.bytes));
  // An endpoint of any scope reaches the regions of any scope only.
  expect_violation(link(), write_request(here, foreign, 3), Code::kAccess);
  EXPECT_TRUE(all_zero(foreign.bytes));
}

TEST_P(DeviceConformance, RefusesARegionThatWasDeregistered) {
  Memory& here = memory(a(), 64, Access::kLocal);
  Memory& gone = memory(b(), 64, Access::kRemoteReadWrite);
  fill_pattern(here.bytes, 1);
  gone.region.reset();
  expect_violation(link(), write_request(here, gone, 1), Code::kStale);
  // A new region over the same bytes, perhaps in the same place of a table, is another region.
  auto reborn =
      b().register_memory(gone.bytes, MemoryKind::kHost, Access::kRemoteReadWrite, kAnyScope);
  expect_violation(link(), write_request(here, gone, 1), Code::kStale);
  expect_violation(link(), read_request(here, gone, 1), Code::kStale);
  EXPECT_TRUE(all_zero(gone.bytes));
}

TEST_P(DeviceConformance, RefusesADescriptorOfAnEarlierLife) {
  Memory& here = memory(a(), 64, Access::kLocal);
  Memory& to = memory(b(), 64, Access::kRemoteReadWrite);
  fill_pattern(here.bytes, 1);
  RemoteRegion old = to.remote;
  old.incarnation ^= 1;
  WorkRequest bad = write_request(here, to, 1);
  bad.remote = &old;
  expect_violation(link(), bad, Code::kStale);
  bad.opcode = Opcode::kRead;
  expect_violation(link(), bad, Code::kStale);
  EXPECT_TRUE(all_zero(to.bytes));
}

TEST_P(DeviceConformance, RefusesAKeyThatNeverWas) {
  Memory& here = memory(a(), 64, Access::kLocal);
  Memory& to = memory(b(), 64, Access::kRemoteReadWrite);
  fill_pattern(here.bytes, 1);
  WorkRequest bad = write_request(here, to, 1);
  using Forge = std::uint64_t (*)(std::uint64_t key);
  for (const Forge forge : {Forge([](std::uint64_t) { return std::uint64_t{0}; }),
                            Forge([](std::uint64_t key) { return key + 1; }),
                            Forge([](std::uint64_t key) { return ~key; }), Forge([](std::uint64_t) {
                              return std::numeric_limits<std::uint64_t>::max();
                            })}) {
    RemoteRegion forged = to.remote;
    for (std::uint64_t& key : forged.key)
      if (key != 0) key = forge(key);
    bad.remote = &forged;
    expect_violation(link(), bad, Code::kStale);
  }
  EXPECT_TRUE(all_zero(to.bytes));
}

// Whether the provider takes GPU memory, and whether there is a GPU: these bytes are none of it.
TEST_P(DeviceConformance, RefusesHostBytesAsGpuMemoryAndSaysTheWayOut) {
  Memory& host = memory(a(), 4096, Access::kRemoteWrite);
  const Status status =
      a().register_memory(host.bytes, MemoryKind::kCuda, Access::kRemoteWrite).status();
  EXPECT_TRUE(status.code() == Code::kUnsupported || status.code() == Code::kInvalidArgument)
      << status.to_string();
  EXPECT_FALSE(status.hint().empty()) << status.to_string();
}

TEST_P(DeviceConformance, WhatFollowsAViolationIsNotApplied) {
  const Link ends = link();
  Memory& here = memory(a(), 64, Access::kLocal);
  Memory& good = memory(b(), 64, Access::kRemoteWrite);
  Memory& after = memory(b(), 64, Access::kRemoteWrite);
  Memory& secret = memory(b(), 64, Access::kLocal);
  fill_pattern(here.bytes, 1);
  WorkRequest last = write_request(here, after, 3);
  last.has_immediate = true;
  const std::array work{write_request(here, good, 1), write_request(here, secret, 2), last};
  ASSERT_EQ(post(ends.a, work).to_string(), "ok");
  ASSERT_TRUE(until_disconnected(ends.a));
  ASSERT_TRUE(until_disconnected(ends.b));
  const std::vector<Completion> done = ends.a.done();
  ASSERT_EQ(done.size(), 3U);
  EXPECT_EQ(done[0].code, Code::kOk);
  EXPECT_EQ(done[1].code, Code::kAccess);
  EXPECT_NE(done[2].code, Code::kOk);
  EXPECT_TRUE(has_pattern(good.bytes, 1));
  EXPECT_TRUE(all_zero(secret.bytes));
  EXPECT_TRUE(all_zero(after.bytes));
  EXPECT_EQ(ends.b.count(Event::kImmediate), 0U);
}

}  // namespace
}  // namespace penstock::test

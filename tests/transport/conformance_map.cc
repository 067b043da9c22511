// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// A peer's region in place, where the provider maps remote memory.
#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

constexpr const char* kMapsNothing = "this provider maps no remote memory";

TEST_P(DeviceConformance, MapsNothingWhereItSaysSo) {
  if (harness().maps(a())) GTEST_SKIP() << "this provider maps remote memory";
  const Link ends = link();
  Memory& there = memory(b(), 100, Access::kRemoteReadWrite | Access::kMap);
  EXPECT_EQ(ends.a.endpoint->map(there.remote, Access::kMap).status().code(), Code::kUnsupported);
  expect_alive(ends);
}

TEST_P(DeviceConformance, TheBytesAreThePeersOwn) {
  if (!harness().maps(a())) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  const auto region = b().allocate_memory(10'000, Access::kRemoteWrite | Access::kMap).value();
  const RemoteRegion remote = region->describe();
  fill_pattern(region->bytes(), 1);
  const auto reading = map(ends.a, remote, Access::kMap).value();
  const auto writing = map(ends.a, remote, Access::kRemoteWrite).value();
  ASSERT_EQ(reading->bytes().size(), 10'000U);
  EXPECT_TRUE(has_pattern(reading->bytes(), 1));
  fill_pattern(writing->bytes(), 2);
  EXPECT_TRUE(has_pattern(region->bytes(), 2));
  EXPECT_TRUE(has_pattern(reading->bytes(), 2));
  expect_alive(ends);
}

TEST_P(DeviceConformance, WhatWasNotAllowedIsRefusedAndTheConnectionLives) {
  if (!harness().maps(a())) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  const auto read = b().allocate_memory(10'000, Access::kRemoteRead).value();
  const auto write = b().allocate_memory(10'000, Access::kRemoteWrite).value();
  const auto in_place = b().allocate_memory(10'000, Access::kMap).value();
  const auto foreign = b().allocate_memory(10'000, Access::kMap, 8).value();
  EXPECT_EQ(map(ends.a, read->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(ends.a, write->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(ends.a, in_place->describe(), Access::kRemoteWrite).status().code(), Code::kAccess);
  EXPECT_EQ(map(ends.a, foreign->describe(), Access::kMap).status().code(), Code::kAccess);
  expect_alive(ends);
}

TEST_P(DeviceConformance, ARegionThatIsGoneIsStale) {
  if (!harness().maps(a())) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  auto region = b().allocate_memory(10'000, Access::kMap).value();
  RemoteRegion remote = region->describe();
  region.reset();
  EXPECT_EQ(map(ends.a, remote, Access::kMap).status().code(), Code::kStale);
  remote.incarnation ^= 1;
  EXPECT_EQ(map(ends.a, remote, Access::kMap).status().code(), Code::kStale);
  expect_alive(ends);
}

TEST_P(DeviceConformance, MemoryOfTheHeapIsNotMapped) {
  if (!harness().maps(a())) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  std::vector<std::byte> heap(100);
  const auto region = b().register_memory(heap, MemoryKind::kHost, Access::kMap, kAnyScope).value();
  EXPECT_EQ(map(ends.a, region->describe(), Access::kMap).status().code(), Code::kUnsupported);
  expect_alive(ends);
}

TEST_P(DeviceConformance, TheBytesOutliveEndpointRegionAndPeer) {
  if (!harness().maps(a())) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  Device& mortal = add_device();
  const Link to_mortal = link(lane_a(), add_lane(mortal));
  auto region = mortal.allocate_memory(5'000, Access::kMap).value();
  fill_pattern(region->bytes(), 4);
  const auto mapped = map(to_mortal.a, region->describe(), Access::kMap).value();
  region.reset();
  EXPECT_TRUE(has_pattern(mapped->bytes(), 4));
  remove_device(mortal);
  ASSERT_TRUE(until_disconnected(to_mortal.a));
  drop(to_mortal.a);
  EXPECT_TRUE(has_pattern(mapped->bytes(), 4));
  EXPECT_EQ(ends.a.endpoint->status().to_string(), "ok");
}

TEST_P(DeviceConformance, NothingIsMappedOnceTheConnectionEnded) {
  if (!harness().maps(a())) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  const auto region = b().allocate_memory(10'000, Access::kMap).value();
  ends.a.endpoint->close();
  EXPECT_FALSE(ends.a.endpoint->map(region->describe(), Access::kMap).ok());
}

}  // namespace
}  // namespace penstock::test

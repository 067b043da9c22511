// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// A peer's region in place, where the provider maps remote memory.
#include <unistd.h>

#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

constexpr const char* kMapsNothing = "this provider maps no remote memory";

TEST_P(DeviceConformance, MapsNothingWhereItSaysSo) {
  if (a().capabilities().maps_remote) GTEST_SKIP() << "this provider maps remote memory";
  const Link ends = link();
  Memory& there = memory(b(), 100, Access::kRemoteReadWrite | Access::kMap);
  EXPECT_EQ(ends.a.endpoint->map(there.remote, Access::kMap).status().code(), Code::kUnsupported);
  expect_alive(ends);
}

TEST_P(DeviceConformance, TheBytesAreThePeersOwn) {
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
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

TEST_P(DeviceConformance, APartOfAllocatedMemoryIsMappedWhereItLies) {
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  const auto whole = b().allocate_memory(10'000, Access::kLocal).value();
  fill_pattern(whole->bytes().subspan(5'001, 777), 3);
  const auto part = b().register_memory(whole->bytes().subspan(5'001, 777), MemoryKind::kHost,
                                        Access::kMap, kAnyScope)
                        .value();
  const auto mapped = map(ends.a, part->describe(), Access::kMap).value();
  EXPECT_EQ(mapped->bytes().size(), 777U);
  EXPECT_TRUE(has_pattern(mapped->bytes(), 3));
}

TEST_P(DeviceConformance, AMappingForReadingCannotBeWritten) {
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  const auto region = b().allocate_memory(10'000, Access::kMap).value();
  const auto mapped = map(ends.a, region->describe(), Access::kMap).value();
  // The kernel writes for us, so that a refusal is an error and not the end of the process.
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  EXPECT_EQ(::read(pipe[0], mapped->bytes().data(), 1), -1);
  ::close(pipe[0]);
  ::close(pipe[1]);
  EXPECT_TRUE(all_zero(region->bytes()));
}

TEST_P(DeviceConformance, WhatWasNotAllowedIsRefusedAndTheConnectionLives) {
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  const auto read = b().allocate_memory(10'000, Access::kRemoteRead).value();
  const auto write = b().allocate_memory(10'000, Access::kRemoteWrite).value();
  const auto in_place = b().allocate_memory(10'000, Access::kMap).value();
  const auto foreign = b().allocate_memory(10'000, Access::kMap, 8).value();
  EXPECT_EQ(map(ends.a, read->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(ends.a, write->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(ends.a, in_place->describe(), Access::kRemoteWrite).status().code(), Code::kAccess);
  EXPECT_EQ(map(ends.a, foreign->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(ends.a, in_place->describe(), Access::kRemoteRead).status().code(),
            Code::kInvalidArgument);
  expect_alive(ends);
}

TEST_P(DeviceConformance, ARegionThatIsGoneIsStale) {
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
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
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  std::vector<std::byte> heap(100);
  const auto region = b().register_memory(heap, MemoryKind::kHost, Access::kMap, kAnyScope).value();
  EXPECT_EQ(map(ends.a, region->describe(), Access::kMap).status().code(), Code::kUnsupported);
  expect_alive(ends);
}

TEST_P(DeviceConformance, TheBytesOutliveEndpointRegionAndPeer) {
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
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
  if (!a().capabilities().maps_remote) GTEST_SKIP() << kMapsNothing;
  const Link ends = link();
  const auto region = b().allocate_memory(10'000, Access::kMap).value();
  ends.a.endpoint->close();
  EXPECT_EQ(ends.a.endpoint->map(region->describe(), Access::kMap).status().code(),
            Code::kCancelled);
}

}  // namespace
}  // namespace penstock::test

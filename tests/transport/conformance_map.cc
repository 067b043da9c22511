// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// A peer's region in place, where the provider maps remote memory.
#include <unistd.h>

#include <optional>

#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

class Mapping : public DeviceConformance {
 protected:
  using Mapped = Result<std::shared_ptr<RemoteMapping>>;

  void SetUp() override {
    DeviceConformance::SetUp();
    if (!a().capabilities().maps_remote) GTEST_SKIP() << "this provider maps no remote memory";
    ends_.emplace(link());
  }
  std::unique_ptr<MemoryRegion> allocate(Access access, PeerScope scope = kAnyScope) {
    return b().allocate_memory(10'000, access, scope).value();
  }
  // Calls map() until it says yes or no.
  Mapped map(const RemoteRegion& remote, Access access) { return map(ends_->a, remote, access); }
  Mapped map(End& end, const RemoteRegion& remote, Access access) {
    Mapped mapped = end.endpoint->map(remote, access);
    EXPECT_TRUE(until([&] {
      if (mapped.ok() && *mapped == nullptr) mapped = end.endpoint->map(remote, access);
      return !mapped.ok() || *mapped != nullptr;
    }));
    return mapped;
  }
  Link ends() { return *ends_; }

 private:
  std::optional<Link> ends_;
};

TEST_P(DeviceConformance, MapsNothingWhereItSaysSo) {
  if (a().capabilities().maps_remote) GTEST_SKIP() << "this provider maps remote memory";
  const Link ends = link();
  Memory& there = memory(b(), 100, Access::kRemoteReadWrite | Access::kMap);
  EXPECT_EQ(ends.a.endpoint->map(there.remote, Access::kMap).status().code(), Code::kUnsupported);
  expect_alive(ends);
}

TEST_P(Mapping, TheBytesAreThePeersOwn) {
  const auto region = allocate(Access::kRemoteWrite | Access::kMap);
  const RemoteRegion remote = region->describe();
  fill_pattern(region->bytes(), 1);
  const auto reading = map(remote, Access::kMap).value();
  const auto writing = map(remote, Access::kRemoteWrite).value();
  ASSERT_EQ(reading->bytes().size(), 10'000U);
  EXPECT_TRUE(has_pattern(reading->bytes(), 1));
  fill_pattern(writing->bytes(), 2);
  EXPECT_TRUE(has_pattern(region->bytes(), 2));
  EXPECT_TRUE(has_pattern(reading->bytes(), 2));
  expect_alive(ends());
}

TEST_P(Mapping, APartOfAllocatedMemoryIsMappedWhereItLies) {
  const auto whole = allocate(Access::kLocal);
  fill_pattern(whole->bytes().subspan(5'001, 777), 3);
  const auto part = b().register_memory(whole->bytes().subspan(5'001, 777), MemoryKind::kHost,
                                        Access::kMap, kAnyScope)
                        .value();
  const auto mapped = map(part->describe(), Access::kMap).value();
  EXPECT_EQ(mapped->bytes().size(), 777U);
  EXPECT_TRUE(has_pattern(mapped->bytes(), 3));
}

TEST_P(Mapping, AMappingForReadingCannotBeWritten) {
  const auto region = allocate(Access::kMap);
  const auto mapped = map(region->describe(), Access::kMap).value();
  // The kernel writes for us, so that a refusal is an error and not the end of the process.
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  EXPECT_EQ(::read(pipe[0], mapped->bytes().data(), 1), -1);
  ::close(pipe[0]);
  ::close(pipe[1]);
  EXPECT_TRUE(all_zero(region->bytes()));
}

TEST_P(Mapping, WhatWasNotAllowedIsRefusedAndTheConnectionLives) {
  const auto read = allocate(Access::kRemoteRead);
  const auto write = allocate(Access::kRemoteWrite);
  const auto in_place = allocate(Access::kMap);
  const auto foreign = allocate(Access::kMap, 8);
  EXPECT_EQ(map(read->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(write->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(in_place->describe(), Access::kRemoteWrite).status().code(), Code::kAccess);
  EXPECT_EQ(map(foreign->describe(), Access::kMap).status().code(), Code::kAccess);
  EXPECT_EQ(map(in_place->describe(), Access::kRemoteRead).status().code(),
            Code::kInvalidArgument);
  expect_alive(ends());
}

TEST_P(Mapping, ARegionThatIsGoneIsStale) {
  auto region = allocate(Access::kMap);
  RemoteRegion remote = region->describe();
  region.reset();
  EXPECT_EQ(map(remote, Access::kMap).status().code(), Code::kStale);
  remote.incarnation ^= 1;
  EXPECT_EQ(map(remote, Access::kMap).status().code(), Code::kStale);
  expect_alive(ends());
}

TEST_P(Mapping, MemoryOfTheHeapIsNotMapped) {
  std::vector<std::byte> heap(100);
  const auto region =
      b().register_memory(heap, MemoryKind::kHost, Access::kMap, kAnyScope).value();
  EXPECT_EQ(map(region->describe(), Access::kMap).status().code(), Code::kUnsupported);
  expect_alive(ends());
}

TEST_P(Mapping, TheBytesOutliveEndpointRegionAndPeer) {
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
  EXPECT_EQ(ends().a.endpoint->status().to_string(), "ok");
}

TEST_P(Mapping, NothingIsMappedOnceTheConnectionEnded) {
  const auto region = allocate(Access::kMap);
  ends().a.endpoint->close();
  EXPECT_EQ(ends().a.endpoint->map(region->describe(), Access::kMap).status().code(),
            Code::kCancelled);
}

}  // namespace
}  // namespace penstock::test

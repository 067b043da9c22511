// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/region_cache.h"

#include <gtest/gtest.h>

#include "transport/loopback/fabric.h"

namespace penstock::test {
namespace {

struct RegionCacheTest : ::testing::Test {
  SystemClock clock;
  LoopbackFabric fabric{clock};
  std::unique_ptr<Device> device = fabric.create_device(1);
  RegionCache cache{*device};
  std::vector<std::byte> memory{std::vector<std::byte>(10'000)};
  std::span<std::byte> at(std::size_t offset, std::size_t bytes) {
    return std::span(memory).subspan(offset, bytes);
  }
};

TEST_F(RegionCacheTest, WhatLiesInsideARegionSharesIt) {
  const RegisteredBuffer all = cache.acquire(memory, Access::kRemoteWrite).value();
  const RegisteredBuffer part = cache.acquire(at(100, 50), Access::kRemoteWrite).value();
  EXPECT_EQ(part.region, all.region);
  EXPECT_EQ(part.offset, 100U);
  EXPECT_EQ(cache.acquire(at(9'999, 1), Access::kLocal).value().region, all.region);
  EXPECT_EQ(cache.registrations(), 1U);
}

TEST_F(RegionCacheTest, OneByteOutsideTakesARegionOfItsOwn) {
  const RegisteredBuffer part = cache.acquire(at(100, 50), Access::kLocal).value();
  const RegisteredBuffer longer = cache.acquire(at(100, 51), Access::kLocal).value();
  const RegisteredBuffer before = cache.acquire(at(99, 2), Access::kLocal).value();
  EXPECT_NE(longer.region, part.region);
  EXPECT_NE(before.region, part.region);
  EXPECT_EQ(cache.registrations(), 3U);
}

TEST_F(RegionCacheTest, MoreAccessTakesARegionOfItsOwn) {
  const RegisteredBuffer local = cache.acquire(memory, Access::kLocal).value();
  const RegisteredBuffer writable = cache.acquire(memory, Access::kRemoteWrite).value();
  EXPECT_NE(writable.region, local.region);
  EXPECT_EQ(cache.acquire(memory, Access::kRemoteWrite).value().region, writable.region);
}

TEST_F(RegionCacheTest, TheLastBufferDeregisters) {
  RegisteredBuffer all = cache.acquire(memory, Access::kLocal).value();
  RegisteredBuffer part = cache.acquire(at(5, 5), Access::kLocal).value();
  all = {};
  EXPECT_EQ(cache.acquire(memory, Access::kLocal).value().region, part.region);
  part = {};
  // The memory may be another by now: it must not be taken for the old.
  EXPECT_TRUE(cache.acquire(memory, Access::kLocal).ok());
  EXPECT_EQ(cache.registrations(), 2U);
}

TEST_F(RegionCacheTest, ALongRegionIsFoundBehindManyShortOnes) {
  const RegisteredBuffer all = cache.acquire(memory, Access::kLocal).value();
  std::vector<RegisteredBuffer> writable;
  for (std::size_t i = 0; i < 500; ++i)
    writable.push_back(cache.acquire(at(i * 10, 10), Access::kRemoteWrite).value());
  EXPECT_EQ(cache.acquire(at(4'995, 1'000), Access::kLocal).value().region, all.region);
  writable.clear();
  for (std::size_t i = 0; i < 500; ++i)
    EXPECT_EQ(cache.acquire(at(i, 10), Access::kLocal).value().region, all.region);
}

}  // namespace
}  // namespace penstock::test

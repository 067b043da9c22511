// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/slab_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "engine/server/lane_memory.h"
#include "tests/support/counting_device.h"
#include "transport/base/random.h"
#include "transport/base/ring.h"
#include "transport/loopback/fabric.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

// The loopback device CHECKs at its end that no region is left.
struct SlabPoolTest : ::testing::Test {
  SystemClock clock;
  LoopbackFabric fabric{clock};
  CountingDevice device{fabric.create_device(1)};
  SlabPool pool{device, Access::kRemoteWrite};
};

bool holds_only(std::span<const std::byte> bytes, std::byte value) {
  return std::all_of(bytes.begin(), bytes.end(), [value](std::byte b) { return b == value; });
}

TEST_F(SlabPoolTest, NoTwoRangesShareAByte) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SeededRandom random(seed);
    struct Held {
      SlabRange range;
      std::byte value;
    };
    std::vector<Held> held;
    for (std::uint64_t turn = 0; turn < 400; ++turn) {
      if (random.chance(600'000)) {
        const std::uint64_t bytes = 1 + random.below(random.chance(50'000) ? kMiB : 8 * kKiB);
        SlabRange range = pool.allocate(bytes).value();
        ASSERT_EQ(range.bytes().size(), bytes);
        ASSERT_EQ(range.offset() % SlabPool::kAlignment, 0U);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(range.bytes().data()) % SlabPool::kAlignment,
                  0U);
        ASSERT_EQ(range.region().bytes().data() + range.offset(), range.bytes().data());
        ASSERT_EQ(range.describe().offset, range.offset());
        ASSERT_EQ(range.describe().region, range.region().describe());
        const auto value = static_cast<std::byte>(turn);
        std::fill(range.bytes().begin(), range.bytes().end(), value);
        held.push_back({std::move(range), value});
      } else if (!held.empty()) {
        std::swap(held[random.below(held.size())], held.back());
        ASSERT_TRUE(holds_only(held.back().range.bytes(), held.back().value)) << "turn " << turn;
        held.pop_back();
      }
    }
    for (const Held& each : held) ASSERT_TRUE(holds_only(each.range.bytes(), each.value));
  }
  EXPECT_EQ(pool.slabs(), 0U);
  EXPECT_EQ(pool.slab_bytes(), 0U);
}

TEST_F(SlabPoolTest, ManySmallRangesTakeFewRegions) {
  std::vector<SlabRange> ranges;
  std::uint64_t used = 0;
  for (int i = 0; i < 50'000; ++i) {
    ranges.push_back(pool.allocate(4 * kKiB).value());
    used += 4 * kKiB;
    ASSERT_LE(pool.slab_bytes(), std::max(2 * used, SlabPool::kMinSlabBytes));
  }
  // Of 195 MiB: twelve that double 64 KiB to 128 MiB, then 64 MiB each.
  EXPECT_EQ(pool.slabs(), 14U);
  EXPECT_EQ(device.calls().allocations, 14U);
}

TEST_F(SlabPoolTest, WhatIsLargeTakesNoMoreThanItNeeds) {
  const SlabRange small = pool.allocate(3 * kMiB + 1).value();
  EXPECT_EQ(pool.slab_bytes(), 3 * kMiB + 64 * kKiB);
  const SlabRange large = pool.allocate(101 * kMiB).value();  // whole huge pages
  EXPECT_EQ(pool.slab_bytes(), 3 * kMiB + 64 * kKiB + 102 * kMiB);
}

TEST_F(SlabPoolTest, FreedBytesAreUsedAgainBeforeNewOnes) {
  const SlabRange keeper = pool.allocate(1000).value();
  SlabRange first = pool.allocate(1000).value();
  SlabRange second = pool.allocate(1000).value();
  const std::byte* const where = first.bytes().data();
  first = {};
  second = {};
  const SlabRange both = pool.allocate(2048).value();  // the two have become one
  EXPECT_EQ(both.bytes().data(), where);
  EXPECT_EQ(device.calls().allocations, 1U);
}

TEST_F(SlabPoolTest, AnEmptySlabGoesBack) {
  SlabRange first = pool.allocate(kMiB).value();
  const SlabRange second = pool.allocate(kMiB).value();
  EXPECT_EQ(pool.slabs(), 2U);
  first = {};
  EXPECT_EQ(pool.slabs(), 1U);
  EXPECT_EQ(pool.slab_bytes(), second.region().bytes().size());
}

TEST_F(SlabPoolTest, WhereGrowingIsRefusedWhatIsNeededIsTaken) {
  const SlabRange first = pool.allocate(4 * kMiB).value();
  device.refuse_allocations_above(2 * kMiB);
  const SlabRange second = pool.allocate(kMiB).value();
  EXPECT_EQ(pool.slab_bytes(), 5 * kMiB);
  EXPECT_EQ(pool.allocate(3 * kMiB).status().code(), Code::kExhausted);
  EXPECT_EQ(pool.allocate(UINT64_MAX).status().code(), Code::kExhausted);
}

TEST_F(SlabPoolTest, NoBytesNeedNoSlab) {
  const SlabRange none = pool.allocate(0).value();
  EXPECT_TRUE(none.bytes().empty());
  EXPECT_EQ(none.describe().region, RemoteRegion{});
  EXPECT_EQ(pool.slabs(), 0U);
}

// As the control loop and a lane do.
TEST_F(SlabPoolTest, OneThreadAllocatesWhileAnotherFrees) {
  constexpr int kRanges = 2000;
  Ring<SlabRange> ring(16);
  std::thread freeing([&ring] {
    for (int freed = 0; freed < kRanges;) {
      SlabRange range;
      if (!ring.pop(range)) {
        std::this_thread::yield();
        continue;
      }
      EXPECT_TRUE(holds_only(range.bytes(), static_cast<std::byte>(freed)));
      ++freed;
    }
  });
  for (int i = 0; i < kRanges; ++i) {
    SlabRange range = pool.allocate(1 + static_cast<std::uint64_t>(i) * 37 % 30'000).value();
    std::fill(range.bytes().begin(), range.bytes().end(), static_cast<std::byte>(i));
    while (!ring.push(std::move(range))) std::this_thread::yield();
  }
  freeing.join();
  EXPECT_EQ(pool.slabs(), 0U);
}

TEST_F(SlabPoolTest, WhatOneWorkerMayWriteIsNeverAnothers) {
  LaneMemory memory(2, device);
  const SlabRange keeper = memory.slots(0).allocate(1000).value();
  SlabRange gone = memory.slots(0).allocate(1000).value();
  gone = {};
  const SlabRange other = memory.slots(1).allocate(1000).value();
  const SlabRange parameters = memory.parameters().allocate(1000).value();
  EXPECT_NE(&other.region(), &keeper.region());
  EXPECT_NE(&parameters.region(), &keeper.region());
  EXPECT_NE(&parameters.region(), &other.region());
}

}  // namespace
}  // namespace penstock::test

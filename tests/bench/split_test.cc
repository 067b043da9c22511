// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace penstock::psbench {
namespace {

TEST(Split, UsesEveryRowOnce) {
  const Split split = split_rows(1000, 20, 7);
  EXPECT_EQ(split.held_out.size(), 200U);
  std::vector<RowIndex> all = split.train;
  all.insert(all.end(), split.held_out.begin(), split.held_out.end());
  std::sort(all.begin(), all.end());
  for (RowIndex i = 0; i < 1000; ++i) ASSERT_EQ(all[i], i);
  ASSERT_EQ(all.size(), 1000U);
}

TEST(Split, DependsOnTheSeedAlone) {
  EXPECT_EQ(split_rows(100, 10, 1).train, split_rows(100, 10, 1).train);
  EXPECT_NE(split_rows(100, 10, 1).train, split_rows(100, 10, 2).train);
  // The order itself is part of the contract: results must repeat on other machines.
  EXPECT_THAT(split_rows(8, 0, 1).train, testing::ElementsAre(4, 3, 2, 7, 5, 6, 0, 1));
}

TEST(Split, TakesTheEnds) {
  EXPECT_TRUE(split_rows(0, 20, 1).train.empty());
  EXPECT_TRUE(split_rows(10, 0, 1).held_out.empty());
  EXPECT_TRUE(split_rows(10, 100, 1).train.empty());
}

TEST(Shard, CutsABatchIntoNearlyEqualPartsInOrder) {
  std::vector<RowIndex> batch(10);
  for (RowIndex i = 0; i < 10; ++i) batch[i] = i;
  for (std::size_t workers = 1; workers <= 12; ++workers) {
    std::vector<RowIndex> joined;
    for (std::size_t worker = 0; worker < workers; ++worker) {
      const auto shard = shard_of(batch, worker, workers);
      EXPECT_GE(shard.size(), 10 / workers);
      EXPECT_LE(shard.size(), 10 / workers + 1);
      joined.insert(joined.end(), shard.begin(), shard.end());
    }
    EXPECT_EQ(joined, batch);
  }
}

}  // namespace
}  // namespace penstock::psbench

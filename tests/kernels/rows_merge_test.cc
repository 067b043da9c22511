// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Merging what workers pushed: which rows, in which order summed, what is dropped.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "kernels/math/half.h"
#include "tests/kernels/rows_support.h"

namespace penstock::test {
namespace {

// One worker's ids and values, as they lie in memory for a merge.
struct Push {
  std::vector<std::uint64_t> ids;
  std::vector<float> values;  // [ids][width]

  std::vector<std::byte> id_bytes(std::uint32_t each) const {
    std::vector<std::byte> bytes(ids.size() * each);
    for (std::size_t i = 0; i < ids.size(); ++i)  // the low bytes come first
      std::memcpy(bytes.data() + i * each, &ids[i], each);
    return bytes;
  }
  std::vector<std::byte> value_bytes(DType dtype) const {
    std::vector<std::byte> bytes(values.size() * dtype_bytes(dtype));
    best_kernels().encode(values.data(), bytes.data(), dtype, values.size());
    return bytes;
  }
};

struct Merged {
  std::vector<std::uint32_t> rows;
  std::vector<float> sums;
  std::uint64_t dropped = 0;
  friend bool operator==(const Merged& a, const Merged& b) {
    return a.rows == b.rows && a.dropped == b.dropped && a.sums.size() == b.sums.size() &&
           (a.sums.empty() ||
            std::memcmp(a.sums.data(), b.sums.data(), a.sums.size() * sizeof(float)) == 0);
  }
};

struct MergeCase {
  std::size_t width = 1;
  std::uint64_t rows = 10;
  std::uint64_t first_id = 0;
  std::uint32_t id_bytes = 8;
  DType dtype = DType::kFloat32;
};

Merged merge(const RowKernels& kernels, const MergeCase& c, const std::vector<Push>& pushes) {
  std::vector<std::vector<std::byte>> ids, values;
  std::vector<RowContribution> workers;
  std::size_t total = 0;
  for (const Push& push : pushes) {
    ids.push_back(push.id_bytes(c.id_bytes));
    values.push_back(push.value_bytes(c.dtype));
    workers.push_back({ids.back().data(), values.back().data(), push.ids.size()});
    total += push.ids.size();
  }
  // Exactly as much room as promised, for the address sanitizer to watch.
  std::vector<std::uint64_t> scratch(2 * total);
  Merged merged;
  merged.rows.resize(total);
  merged.sums.resize(total * c.width);
  RowMergeArgs args;
  args.workers = workers.data();
  args.worker_count = static_cast<std::uint32_t>(workers.size());
  args.id_bytes = c.id_bytes;
  args.dtype = c.dtype;
  args.width = c.width;
  args.first_id = c.first_id;
  args.rows = c.rows;
  args.scratch = scratch.data();
  args.merged_rows = merged.rows.data();
  args.sums = merged.sums.data();
  args.capacity = total;
  const MergedRows result = kernels.merge(args);
  merged.rows.resize(result.count);
  merged.sums.resize(result.count * c.width);
  merged.dropped = result.dropped;
  return merged;
}

// The contract, by a map: rank order, position order, from the first contribution itself.
Merged expected_merge(const MergeCase& c, const std::vector<Push>& pushes) {
  std::map<std::uint32_t, std::vector<float>> sums;
  Merged merged;
  for (const Push& push : pushes) {
    const std::vector<std::byte> codes = push.value_bytes(c.dtype);
    std::vector<float> values(push.values.size());
    find_kernels("scalar")->decode(codes.data(), c.dtype, values.data(), values.size());
    for (std::size_t k = 0; k < push.ids.size(); ++k) {
      if (push.ids[k] < c.first_id || push.ids[k] - c.first_id >= c.rows) {
        ++merged.dropped;
        continue;
      }
      const float* value = values.data() + k * c.width;
      const auto row = static_cast<std::uint32_t>(push.ids[k] - c.first_id);
      const auto [at, added] = sums.try_emplace(row, value, value + c.width);
      for (std::size_t i = 0; i < c.width; ++i)
        at->second[i] = canonical(added ? value[i] : at->second[i] + value[i]);
    }
  }
  for (const auto& [row, sum] : sums) {
    merged.rows.push_back(row);
    merged.sums.insert(merged.sums.end(), sum.begin(), sum.end());
  }
  return merged;
}

TEST(RowsMerge, SumsDuplicatesInRankAndPositionOrder) {
  const MergeCase c;
  const float big = 0x1p25F;
  for (const RowKernels* kernels : available_row_kernels()) {
    // Row 4: (big + 1) − big is 0; row 2: (big − big) + 1 is 1; row 7: one −0, kept.
    const Merged merged = merge(
        *kernels, c, {{{4, 2, 4, 7}, {big, big, 1, -0.0F}}, {}, {{2, 4, 2}, {-big, -big, 1}}});
    EXPECT_EQ(merged.rows, (std::vector<std::uint32_t>{2, 4, 7}));
    EXPECT_EQ(merged.sums, (std::vector<float>{1, 0, 0}));
    EXPECT_TRUE(std::signbit(merged.sums[2]));
    EXPECT_EQ(merged.dropped, 0U);
  }
}

TEST(RowsMerge, DropsAndCountsIdsTheServerDoesNotHave) {
  MergeCase c;
  c.first_id = 100;
  for (const RowKernels* kernels : available_row_kernels())
    for (std::uint32_t bytes : {4U, 8U}) {
      c.id_bytes = bytes;
      // 99 and 110 lie just outside, −1 of a signed type far.
      const Push push = {{99, 100, 109, 110, ~0ULL, 0}, {1, 2, 3, 4, 5, 6}};
      const Merged merged = merge(*kernels, c, {push});
      EXPECT_EQ(merged.rows, (std::vector<std::uint32_t>{0, 9}));
      EXPECT_EQ(merged.sums, (std::vector<float>{2, 3}));
      EXPECT_EQ(merged.dropped, 4U);
    }
}

TEST(RowsMerge, NothingPushed) {
  for (const RowKernels* kernels : available_row_kernels())
    for (std::uint64_t rows : {0ULL, 5ULL}) {
      MergeCase c;
      c.rows = rows;
      EXPECT_TRUE(merge(*kernels, c, {{}, {}}) == Merged());
      EXPECT_EQ(merge(*kernels, c, {{{5}, {1}}}).dropped, 1U);
    }
}

TEST(RowsMerge, TheLastRowOfTheLargestTable) {
  MergeCase c;
  c.rows = kMaxRows;
  c.first_id = 1ULL << 40;
  const Push push = {{c.first_id + kMaxRows, c.first_id + kMaxRows - 1, c.first_id}, {1, 2, 3}};
  for (const RowKernels* kernels : available_row_kernels()) {
    const Merged merged = merge(*kernels, c, {push});
    EXPECT_EQ(merged.rows, (std::vector<std::uint32_t>{0, 0xffff'ffffU}));
    EXPECT_EQ(merged.sums, (std::vector<float>{3, 2}));
    EXPECT_EQ(merged.dropped, 1U);
  }
}

TEST(RowsMerge, EveryTargetKeepsTheContract) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    SeededRandom random(seed * 7919);
    constexpr std::size_t kWidths[] = {1, 3, 8, 16, 17, 64, 1000};
    constexpr std::uint64_t kRows[] = {1, 2, 50, 300, 70'000, 20'000'000};
    MergeCase c;
    c.width = kWidths[random.below(std::size(kWidths))];
    c.rows = kRows[random.below(std::size(kRows))];
    c.first_id = random.chance(500'000) ? 0 : random.below(1000);
    c.id_bytes = random.chance(500'000) ? 4 : 8;
    c.dtype = static_cast<DType>(random.below(3));
    const auto flavour = static_cast<Flavour>(random.below(4));
    std::vector<Push> pushes(1 + random.below(9));
    for (Push& push : pushes) {
      push.ids.resize(random.below(60));
      for (std::uint64_t& id : push.ids) id = random.below(c.rows + c.first_id + 5);
      if (random.chance(300'000)) std::sort(push.ids.begin(), push.ids.end());
      push.values.resize(push.ids.size() * c.width);
      for (float& value : push.values) value = random_float(random, flavour);
    }
    const Merged expected = expected_merge(c, pushes);
    for (const RowKernels* kernels : available_row_kernels())
      ASSERT_TRUE(merge(*kernels, c, pushes) == expected) << kernels->target << " seed " << seed;
  }
}

// Merge and mean as MindSpore has them: the sum of duplicates first, then the division.
TEST(RowsMerge, TheMeanComesAfterTheSum) {
  const MergeCase c;
  for (const RowKernels* kernels : available_row_kernels()) {
    const Merged merged = merge(*kernels, c, {{{3, 3}, {1, 2}}, {{3}, {5}}});
    RowCase table;
    table.optimizer.elements.learning_rate = 1;
    table.width = 1;
    RowArrays arrays(table);
    arrays.parameter(3, 0) = 10;
    RowUpdateArgs args = arrays.args();
    args.rows = merged.rows.data();
    args.gradients = merged.sums.data();
    args.count = merged.rows.size();
    args.scale = 0.5F;
    EXPECT_EQ(kernels->update(fold_rows(table.optimizer, 1), args), 0U);
    EXPECT_EQ(arrays.parameter(3, 0), 10 - 8 * 0.5F);
  }
}

TEST(RowsMerge, RefusesMoreThanThereIsRoomFor) {
  const std::uint64_t ids[] = {1, 2};
  const float values[] = {1, 2};
  const RowContribution push = {ids, values, 2};
  std::uint64_t scratch[2];
  std::uint32_t rows[1];
  float sums[1];
  RowMergeArgs args;
  args.workers = &push;
  args.worker_count = 1;
  args.width = 1;
  args.rows = 10;
  args.scratch = scratch;
  args.merged_rows = rows;
  args.sums = sums;
  args.capacity = 1;
  EXPECT_DEATH(best_row_kernels().merge(args), "room is for 1");
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Every target steps rows to the bits of "scalar", and "scalar" to those of the dense kernels.

#include <gtest/gtest.h>

#include "tests/kernels/rows_support.h"

namespace penstock::test {
namespace {

constexpr RowCoverage kCoverages[] = {RowCoverage::kTouched, RowCoverage::kAll};
constexpr Flavour kFlavours[] = {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme,
                                 Flavour::kAnyBits};

void expect_equal_targets(const RowCase& c) {
  RowArrays expected(c);
  for (std::uint64_t step = 1; step <= 2; ++step) {
    EXPECT_EQ(expected.update(*find_row_kernels("scalar"), step), c.beyond);
    expected.new_gradients();
  }
  for (const RowKernels* kernels : available_row_kernels()) {
    RowArrays actual(c);
    for (std::uint64_t step = 1; step <= 2; ++step) {
      EXPECT_EQ(actual.update(*kernels, step), c.beyond);
      actual.new_gradients();
    }
    ASSERT_TRUE(actual.results() == expected.results()) << kernels->target << ": " << describe(c);
    ASSERT_TRUE(actual.guards_intact()) << kernels->target << ": " << describe(c);
  }
}

TEST(RowsEquality, EveryRuleCoverageAndFlavour) {
  for (const RowOptimizerSpec& spec : row_variants())
    for (RowCoverage coverage : kCoverages)
      for (Flavour flavour : kFlavours) {
        RowCase c;
        c.optimizer = spec;
        c.width = 19;
        c.coverage = coverage;
        c.flavour = flavour;
        c.scale = 1.0F / 3;
        expect_equal_targets(c);
      }
}

TEST(RowsEquality, WidthsGapsOffsetsAndRowsBeyondTheTable) {
  for (std::uint32_t rule = 0; rule < kRowRules; ++rule)
    for (std::size_t width : {1U, 3U, 8U, 16U, 17U, 64U, 1000U})
      for (RowCoverage coverage : kCoverages)
        for (std::size_t gap : {0U, 1U, 16U}) {
          RowCase c;
          c.optimizer.elements = default_optimizer(OptimizerKind::kAdam);
          for (const RowOptimizerSpec& spec : row_variants())
            if (static_cast<std::uint32_t>(spec.rule) == rule && rule > 0) c.optimizer = spec;
          c.width = width;
          c.gap = gap;
          c.offset = 4 * (width % 5);
          c.beyond = gap;
          c.coverage = coverage;
          c.seed = width;
          expect_equal_targets(c);
        }
}

TEST(RowsEquality, NoRowsAndAllRows) {
  for (std::size_t touched : {0U, 1U, 20U})
    for (RowCoverage coverage : kCoverages) {
      RowCase c;
      c.optimizer.elements = default_optimizer(OptimizerKind::kMomentum);
      c.touched = touched;
      c.coverage = coverage;
      expect_equal_targets(c);
    }
}

TEST(RowsEquality, TouchedRowsLeaveAllOthersAsTheyAre) {
  for (const RowOptimizerSpec& spec : row_variants())
    for (const RowKernels* kernels : available_row_kernels()) {
      RowCase c;
      c.optimizer = spec;
      c.gap = 3;
      c.beyond = 2;
      RowArrays before(c), after(c);
      after.update(*kernels, 1);
      for (std::uint64_t row = 0; row < c.rows; ++row)
        for (std::size_t i = 0; i < c.width + c.gap; ++i) {
          const bool may_change = i < c.width && after.gradient(row) != nullptr;
          if (!may_change) {
            ASSERT_EQ(after.parameter(row, i), before.parameter(row, i)) << describe(c);
          }
        }
    }
}

// All rows with a gradient of 0 where there is none: what the dense kernels do with it spelled out.
TEST(RowsEquality, AllRowsAreADenseUpdate) {
  for (const OptimizerSpec& spec : optimizer_variants())
    for (const RowKernels* kernels : available_row_kernels()) {
      RowCase c;
      c.optimizer.elements = spec;
      c.coverage = RowCoverage::kAll;
      c.scale = 0.25F;
      RowArrays sparse(c), dense(c);
      std::vector<float> gradients(c.rows * c.width);
      for (std::uint64_t row = 0; row < c.rows; ++row)
        if (dense.gradient(row) != nullptr)
          std::copy_n(dense.gradient(row), c.width, gradients.data() + row * c.width);
      const void* gradient = gradients.data();
      UpdateArgs args;
      args.gradients = &gradient;
      args.workers = 1;
      args.parameters = dense.args().table.parameters.data;
      for (std::uint32_t s = 0; s < state_planes(spec); ++s)
        args.state[s] = dense.args().table.state[s].data;
      args.count = gradients.size();
      args.scale = c.scale;
      find_kernels(kernels->target)->update(fold(spec, 1), args);
      sparse.update(*kernels, 1);
      ASSERT_TRUE(sparse.results() == dense.results()) << kernels->target << describe(c);
    }
}

TEST(RowsEquality, RandomCases) {
  for (std::uint64_t seed = 1; seed <= 600; ++seed) {
    SeededRandom random(seed * 1'000'003);
    RowCase c;
    c.optimizer = row_variants()[random.below(row_variants().size())];
    c.rows = 1 + random.below(60);
    c.width = 1 + random.below(80);
    c.gap = random.below(3);
    c.touched = random.below(c.rows + 1);
    c.beyond = random.below(3);
    c.coverage = kCoverages[random.below(2)];
    c.flavour = kFlavours[random.below(4)];
    c.offset = 4 * random.below(16);
    c.scale = random.chance(500'000) ? 1.0F : 0.125F;
    c.seed = seed;
    expect_equal_targets(c);
  }
}

TEST(RowsEquality, RefusesRowsThatDoNotAscend) {
  RowCase c;
  RowArrays arrays(c);
  std::vector<std::uint32_t> rows = {3, 3};
  RowUpdateArgs args = arrays.args();
  args.rows = rows.data();
  args.count = 2;
  for (const RowKernels* kernels : available_row_kernels()) {
    rows = {3, 3};
    EXPECT_DEATH(kernels->update(fold_rows(c.optimizer, 1), args), "ascend strictly");
    rows = {4, 3};
    EXPECT_DEATH(kernels->update(fold_rows(c.optimizer, 1), args), "ascend strictly");
  }
}

TEST(RowsTable, ListsTheTargetsOfTheDenseKernels) {
  ASSERT_EQ(available_row_kernels().size(), available_kernels().size());
  for (std::size_t i = 0; i < available_kernels().size(); ++i)
    EXPECT_STREQ(available_row_kernels()[i]->target, available_kernels()[i]->target);
  EXPECT_EQ(&best_row_kernels(), available_row_kernels().back());
  EXPECT_EQ(find_row_kernels("no such target"), nullptr);
}

}  // namespace
}  // namespace penstock::test

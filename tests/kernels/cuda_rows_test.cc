// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The GPU's step of rows, run by the CPU row by row and thread by thread in a shuffled order, gives
// the bits of "scalar".

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/cuda/host_rows.h"
#include "tests/kernels/rows_support.h"

namespace penstock::test {
namespace {

// One launch: every touched row and a few threads too many.
void launch(const RowCoefficients& c, const RowUpdateArgs& args, SeededRandom& random) {
  std::vector<std::uint64_t> indices(args.count + 3);
  std::iota(indices.begin(), indices.end(), 0U);
  for (std::size_t i = indices.size(); i > 1; --i)
    std::swap(indices[i - 1], indices[random.below(i)]);
  for (std::uint64_t index : indices) {
    std::uint32_t order[cuda::kRowThreads] = {0, 1, 2, 3};
    for (std::size_t i = cuda::kRowThreads; i > 1; --i)
      std::swap(order[i - 1], order[random.below(i)]);
    cuda::rows_on_host(c, args, index, order);
  }
}

void expect_scalar_bits(const RowCase& c) {
  RowArrays expected(c), actual(c);
  SeededRandom random(c.seed);
  for (std::uint64_t step = 1; step <= 2; ++step) {
    expected.update(*find_row_kernels("scalar"), step);
    launch(fold_rows(c.optimizer, step), actual.args(), random);
    expected.new_gradients();
    actual.new_gradients();
  }
  ASSERT_TRUE(actual.results() == expected.results()) << describe(c);
  ASSERT_TRUE(actual.guards_intact()) << describe(c);
}

TEST(CudaRows, EveryRuleAndFlavour) {
  for (const RowOptimizerSpec& spec : row_variants())
    for (Flavour flavour :
         {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme, Flavour::kAnyBits})
      for (std::size_t width : {36U, 19U}) {  // eligible for 128-bit accesses, and not
        RowCase c;
        c.optimizer = spec;
        c.width = width;
        c.flavour = flavour;
        c.scale = 1.0F / 3;
        expect_scalar_bits(c);
      }
}

TEST(CudaRows, WidthsGapsOffsetsAndRowsBeyondTheTable) {
  for (std::size_t width : {1U, 3U, 4U, 8U, 16U, 17U, 64U, 1000U})
    for (std::size_t gap : {0U, 1U, 4U})
      for (std::size_t offset : {0U, 4U, 16U})
        for (const RowOptimizerSpec& spec : row_variants()) {
          if (spec.rule == RowRule::kElements) continue;
          RowCase c;
          c.optimizer = spec;
          c.rows = 6;
          c.touched = 4;
          c.width = width;
          c.gap = gap;
          c.offset = offset;
          c.beyond = gap;
          c.seed = width;
          expect_scalar_bits(c);
        }
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The GPU's body, run by the CPU thread by thread in a shuffled order, gives the bits of "scalar".

#include <gtest/gtest.h>

#include "tests/kernels/cuda_support.h"
#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};

// What a server would put into the table for this round of the slice.
cuda::SliceStep make_step(const Coefficients& coefficients, UpdateArgs args,
                          std::vector<const void*>& present) {
  for (std::uint32_t w = 0; w < args.workers; ++w)
    if (args.gradients[w] != nullptr) present.push_back(args.gradients[w]);
  args.gradients = present.data();
  args.workers = static_cast<std::uint32_t>(present.size());
  return step_of(coefficients, args);
}

// Two steps of slices with these counts, side by side in one launch each.
void expect_scalar_bits(const Case& base, const std::vector<std::size_t>& counts) {
  std::vector<Arrays> expected, actual;
  expected.reserve(counts.size());
  actual.reserve(counts.size());
  for (std::size_t i = 0; i < counts.size(); ++i) {
    Case c = base;
    c.count = counts[i];
    c.seed = base.seed + i;
    c.workers = 1 + static_cast<std::uint32_t>((base.workers + i) % 9);
    expected.emplace_back(c);
    actual.emplace_back(c);
  }
  for (std::uint64_t round = 1; round <= 2; ++round) {
    std::vector<std::vector<const void*>> present(counts.size());
    std::vector<cuda::SliceStep> steps;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      expected[i].update(*find_kernels("scalar"), round);
      steps.push_back(make_step(fold(base.optimizer, round), actual[i].args(), present[i]));
      steps.back().aligned = base.offset % 16 == 0;
    }
    launch_step(steps, cuda::gradient_type(base.gradient_dtype), base.seed + round);
  }
  for (std::size_t i = 0; i < counts.size(); ++i) {
    ASSERT_TRUE(actual[i].results() == expected[i].results())
        << counts[i] << ": " << describe(base);
    ASSERT_TRUE(actual[i].guards_intact()) << counts[i] << ": " << describe(base);
  }
}

Case make_case(const OptimizerSpec& optimizer, std::uint64_t seed) {
  Case c;
  c.optimizer = optimizer;
  c.workers = 3;
  c.scale = 1.0F / 3;
  c.seed = seed;
  return c;
}

TEST(CudaBody, EveryRuleTypeAndFlavour) {
  for (const OptimizerSpec& spec : optimizer_variants())
    for (DType gradient : kDTypes)
      for (DType wire : kDTypes) {
        Case c = make_case(spec, 3);
        c.gradient_dtype = gradient;
        c.wire_dtype = wire;
        for (Flavour flavour :
             {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme, Flavour::kAnyBits}) {
          c.flavour = flavour;
          expect_scalar_bits(c, {77});
        }
      }
}

TEST(CudaBody, EveryStageOnEveryRule) {
  for (const OptimizerSpec& spec : optimizer_variants())
    for (const OptimizerSpec& staged : with_stages(spec))
      for (Flavour flavour : {Flavour::kOrdinary, Flavour::kExtreme}) {
        Case c = make_case(staged, 11);
        c.gradient_dtype = c.wire_dtype = DType::kBfloat16;
        c.flavour = flavour;
        c.first_element = 0xffff'ffe0;
        expect_scalar_bits(c, {77, 16});
      }
}

TEST(CudaBody, ManySlicesOfOddSizesInOneLaunch) {
  for (DType dtype : kDTypes) {
    Case c = make_case(default_optimizer(OptimizerKind::kAdamW), 5);
    c.gradient_dtype = c.wire_dtype = dtype;
    expect_scalar_bits(c, {1, 2047, 8, 2048, 7, 2049, 4096, 9, 4097, 1, 5000});
  }
}

TEST(CudaBody, MisalignedSlicesGoOneByOne) {
  for (std::size_t offset : {4U, 8U, 12U, 16U}) {
    Case c = make_case(default_optimizer(OptimizerKind::kMomentum), offset);
    c.gradient_dtype = c.wire_dtype = DType::kBfloat16;
    c.offset = offset;
    expect_scalar_bits(c, {1, 15, 64, 2051});
  }
}

TEST(CudaBody, AbsentGradientsAndNoWire) {
  for (std::uint32_t absent : {300'000U, 1'000'000U}) {
    Case c = make_case(default_optimizer(OptimizerKind::kAdam), absent);
    c.absent_per_million = absent;
    c.workers = 8;
    c.has_wire = false;
    expect_scalar_bits(c, {100, 3000});
  }
}

}  // namespace
}  // namespace penstock::test

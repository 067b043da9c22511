// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The stages around the rules: L1 penalty, delay compensation, bf16 state, the check for NaN.

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/math/half.h"
#include "tests/kernels/oracle.h"
#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};

Case case_of(const OptimizerSpec& spec, std::size_t count) {
  Case c;
  c.optimizer = spec;
  c.workers = 3;
  c.count = count;
  c.scale = 1.0F / 3;
  c.seed = 20 + static_cast<std::uint64_t>(spec.kind);
  return c;
}

// Every stage in float32 state against the oracle, from the same state at each step.
TEST(Stages, FollowTheOracle) {
  for (const KernelTable* kernels : available_kernels())
    for (const OptimizerSpec& variant : optimizer_variants())
      for (OptimizerSpec spec : with_stages(variant)) {
        spec.state_dtype = StateDType::kFloat32;
        const Case c = case_of(spec, 45);
        Arrays arrays(c);
        const auto gradients = arrays.present_gradients();
        for (std::uint64_t step = 1; step <= 4; ++step) {
          const std::vector<float> before = arrays.parameters();
          std::vector<std::vector<float>> planes;
          for (std::uint32_t s = 0; s < state_planes(spec); ++s) planes.push_back(arrays.state(s));
          arrays.update(*kernels, step);
          const std::vector<float> after = arrays.parameters();
          for (std::size_t i = 0; i < c.count; ++i) {
            double state[kMaxStatePlanes] = {};
            for (std::size_t s = 0; s < planes.size(); ++s) state[s] = planes[s][i];
            const float g = (gradients[0][i] + gradients[1][i] + gradients[2][i]) * c.scale;
            const Measured expected = oracle_step(spec, step, before[i], state, g).parameter;
            ASSERT_NEAR(after[i], expected.value, 14 * 0x1p-24 * expected.size)
                << kernels->target << " step " << step << " element " << i << ": " << describe(c);
          }
        }
      }
}

TEST(Stages, SeenIsTheParametersBeforeTheUpdate) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kAdam);
  spec.compensation = 0.04;
  spec.state_dtype = StateDType::kBfloat16;  // `seen` stays float32
  for (const KernelTable* kernels : available_kernels()) {
    Arrays arrays(case_of(spec, 37));
    EXPECT_EQ(arrays.state(2), arrays.parameters());
    for (std::uint64_t step = 1; step <= 3; ++step) {
      const std::vector<float> before = arrays.parameters();
      arrays.update(*kernels, step);
      EXPECT_EQ(arrays.state(2), before) << kernels->target;
    }
  }
}

TEST(Stages, AnL1PenaltyPullsTowardsZeroAndLeavesZeroAlone) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kSgd);
  spec.learning_rate = 1;
  spec.l1 = 0.25;
  for (const KernelTable* kernels : available_kernels()) {
    float parameters[] = {2, -2, 0, -0.0F};
    const void* nothing = nullptr;
    UpdateArgs args;
    args.gradients = &nothing;
    args.workers = 1;
    args.parameters = parameters;
    args.count = 4;
    EXPECT_TRUE(kernels->update(fold(spec, 1), args));
    EXPECT_EQ(parameters[0], 1.75F);
    EXPECT_EQ(parameters[1], -1.75F);
    EXPECT_EQ(parameters[2], 0.0F);
    EXPECT_EQ(parameters[3], 0.0F);
  }
}

void expect_equal_targets(const Case& c) {
  Arrays expected(c);
  for (std::uint64_t step = 1; step <= 2; ++step) expected.update(*find_kernels("scalar"), step);
  for (const KernelTable* kernels : available_kernels()) {
    Arrays actual(c);
    for (std::uint64_t step = 1; step <= 2; ++step) actual.update(*kernels, step);
    ASSERT_TRUE(actual.results() == expected.results()) << kernels->target << ": " << describe(c);
    ASSERT_TRUE(actual.guards_intact()) << kernels->target << ": " << describe(c);
  }
}

TEST(Stages, EveryTargetGivesTheSameBits) {
  for (const OptimizerSpec& variant : optimizer_variants())
    for (const OptimizerSpec& spec : with_stages(variant))
      for (Flavour flavour :
           {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme, Flavour::kAnyBits}) {
        Case c = case_of(spec, 141);
        c.gradient_dtype = c.wire_dtype = DType::kBfloat16;
        c.flavour = flavour;
        c.offset = 4;
        c.first_element = 0xffff'ffd3;  // the index wraps within the slice
        expect_equal_targets(c);
      }
}

TEST(Stages, EveryCountAndManyWorkersGiveTheSameBits) {
  const OptimizerSpec all = with_stages(default_optimizer(OptimizerKind::kAdamW)).back();
  for (std::size_t count = 1; count <= 100; ++count) {
    Case c = case_of(all, count);
    c.gradient_dtype = kDTypes[count % 3];
    c.wire_dtype = kDTypes[count / 3 % 3];
    c.stream_wire = count % 2 == 0;
    expect_equal_targets(c);
  }
  for (std::uint32_t workers : {9U, 64U}) {
    Case c = case_of(all, 2500);
    c.workers = workers;
    expect_equal_targets(c);
  }
}

TEST(Bf16State, CuttingIntoSlicesChangesNoBit) {
  const OptimizerSpec spec = with_stages(default_optimizer(OptimizerKind::kAdamW)).back();
  Case c = case_of(spec, 500);
  c.first_element = 640;
  for (const KernelTable* kernels : available_kernels()) {
    Arrays whole(c), cut(c);
    whole.update(*kernels, 5);
    const UpdateArgs all = cut.args();
    for (std::size_t begin = 0; begin < c.count;) {
      const std::size_t length = std::min<std::size_t>(begin % 71 + 1, c.count - begin);
      const void* gradients[kMaxWorkers];
      for (std::uint32_t w = 0; w < all.workers; ++w)
        gradients[w] = static_cast<const float*>(all.gradients[w]) + begin;
      UpdateArgs part = all;
      part.gradients = gradients;
      part.parameters += begin;
      for (std::uint32_t s = 0; s < state_planes(spec); ++s)
        part.state[s] = static_cast<std::byte*>(all.state[s]) + begin * state_bytes(spec, s);
      part.wire = static_cast<float*>(all.wire) + begin;
      part.count = length;
      part.first_element = all.first_element + begin;
      kernels->update(fold(spec, 5), part);
      begin += length;
    }
    EXPECT_TRUE(cut.results() == whole.results()) << kernels->target;
  }
}

// What velocities of 1 + 0.3·2⁻⁷ are kept as, by one momentum step: bf16 has 1 and 1 + 2⁻⁷.
std::vector<float> rounded(const KernelTable& kernels, std::uint64_t seed, std::uint64_t step,
                           float value, std::size_t count) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kMomentum);
  spec.momentum = 0;
  spec.state_dtype = StateDType::kBfloat16;
  spec.rounding_seed = seed;
  std::vector<float> gradient(count, value), parameters(count);
  std::vector<std::uint16_t> velocity(count);
  const void* const pointer = gradient.data();
  UpdateArgs args;
  args.gradients = &pointer;
  args.workers = 1;
  args.parameters = parameters.data();
  args.state[0] = velocity.data();
  args.count = count;
  kernels.update(fold(spec, step), args);
  std::vector<float> values;
  for (const std::uint16_t code : velocity) values.push_back(bf16_to_float(code));
  return values;
}

TEST(Bf16State, RoundsWithoutBiasOverElementsAndOverUpdates) {
  constexpr std::size_t kCount = 1 << 16;
  constexpr double kStep = 0x1p-7;
  for (const double part : {0.03, 0.3, 0.5, 0.9}) {
    const auto value = static_cast<float>(1 + part * kStep);
    double elements = 0, updates = 0;
    for (const float v : rounded(best_kernels(), 1, 9, value, kCount)) elements += (v - 1) / kStep;
    for (std::uint64_t step = 1; step <= 20'000; ++step)
      updates += (rounded(best_kernels(), 1, step, value, 1)[0] - 1) / kStep;
    // Five deviations of a coin thrown that often.
    EXPECT_NEAR(elements / kCount, part, 5 * std::sqrt(part * (1 - part) / kCount));
    EXPECT_NEAR(updates / 20'000, part, 5 * std::sqrt(part * (1 - part) / 20'000));
  }
}

TEST(Bf16State, BitsDependOnSeedAndUpdateAndNeighboursDoNotAgree) {
  const auto value = static_cast<float>(1 + 0x1p-8);  // half way
  const auto agree = [](const std::vector<float>& a, const std::vector<float>& b) {
    std::size_t equal = 0;
    for (std::size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i];
    return static_cast<double>(equal) / static_cast<double>(a.size());
  };
  constexpr std::size_t kCount = 1 << 14;
  const std::vector<float> base = rounded(best_kernels(), 1, 1, value, kCount);
  EXPECT_EQ(rounded(best_kernels(), 1, 1, value, kCount), base);
  EXPECT_NEAR(agree(base, rounded(best_kernels(), 2, 1, value, kCount)), 0.5, 0.02);
  EXPECT_NEAR(agree(base, rounded(best_kernels(), 1, 2, value, kCount)), 0.5, 0.02);
  for (std::size_t distance : {1U, 2U, 16U, 32U, 64U, 1024U}) {
    std::vector<float> shifted = base;
    std::rotate(shifted.begin(), shifted.begin() + static_cast<std::ptrdiff_t>(distance),
                shifted.end());
    EXPECT_NEAR(agree(base, shifted), 0.5, 0.03) << distance;
  }
}

TEST(Bf16State, KeepsWhatBf16HasAndInfinitiesAndNans) {
  for (const KernelTable* kernels : available_kernels()) {
    for (const float exact : {0.0F, 1.0F, -1.5F, 0x1p-130F, kInfinity, -kInfinity})
      for (const float kept : rounded(*kernels, 4, 2, exact, 200)) ASSERT_EQ(kept, exact);
    for (const float kept : rounded(*kernels, 4, 2, kNan, 200)) ASSERT_TRUE(std::isnan(kept));
    for (const float kept : rounded(*kernels, 4, 2, -1.001F, 200))
      ASSERT_TRUE(kept == -1 || kept == -1 - 0x1p-7F);
  }
}

template <class Element>
void expect_found(DType dtype, const std::vector<Element>& codes) {
  for (const KernelTable* kernels : available_kernels())
    for (std::size_t count : {1U, 7U, 31U, 64U, 129U, 500U}) {
      std::vector<Element> values(count + 1, codes[0]);
      EXPECT_TRUE(kernels->finite(values.data() + 1, dtype, count)) << kernels->target;
      for (std::size_t at = 0; at < count; ++at)
        for (std::size_t bad = 1; bad < codes.size(); ++bad) {
          values[at + 1] = codes[bad];
          ASSERT_FALSE(kernels->finite(values.data() + 1, dtype, count))
              << kernels->target << " " << dtype_name(dtype) << " " << at << " of " << count;
          values[at + 1] = codes[0];
        }
    }
}

TEST(Finite, FindsEveryNanAndInfinityWhereverItIs) {
  expect_found<float>(DType::kFloat32, {std::numeric_limits<float>::lowest(), kInfinity, -kInfinity,
                                        kNan, -kNan, std::bit_cast<float>(0x7f80'0001)});
  expect_found<std::uint16_t>(DType::kFloat16, {0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xffff, 0x7c01});
  expect_found<std::uint16_t>(DType::kBfloat16, {0xff7f, 0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7f81});
}

TEST(Finite, AnUpdateSaysWhetherItsSumWas) {
  for (const KernelTable* kernels : available_kernels())
    for (const std::size_t count : {5U, 64U, 2100U})
      for (const std::uint32_t workers : {2U, 12U})
        for (const float bad : {0.0F, kNan, kInfinity, -kInfinity}) {
          Case c = case_of(default_optimizer(OptimizerKind::kAdamW), count);
          c.workers = workers;
          Arrays arrays(c);
          const auto* gradient = static_cast<const float*>(arrays.args().gradients[1]);
          const_cast<float*>(gradient)[count - 1] = bad;  // the test's own array
          EXPECT_EQ(arrays.update(*kernels, 1), bad == 0) << kernels->target << " " << bad;
        }
}

}  // namespace
}  // namespace penstock::test

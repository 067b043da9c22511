// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The fused update against the double-precision oracle, and its corner cases.

#include <gtest/gtest.h>

#include <limits>

#include "tests/kernels/oracle.h"
#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};
constexpr double kHalfUlp = 0x1p-24;  // relative, of float32
// At most ten roundings (coefficients included) lie between the inputs of a step and any output.
constexpr double kRoundings = 10;

// The sum as the contract states it: float32, rank order, one multiplication.
float contract_sum(const std::vector<std::vector<float>>& present, std::size_t i, float scale) {
  if (present.empty()) return 0;
  float sum = present[0][i];
  for (std::size_t w = 1; w < present.size(); ++w) sum += present[w][i];
  return sum * scale;
}

void expect_measured(float actual, const Measured& expected, const Case& c) {
  EXPECT_NEAR(actual, expected.value, kRoundings * kHalfUlp * expected.size) << describe(c);
}

// Steps the arrays with `kernels`; each step is checked against the oracle from the same state.
void expect_oracle_steps(const KernelTable& kernels, const Case& c, std::uint64_t steps) {
  Arrays arrays(c);
  const std::vector<std::vector<float>> gradients = arrays.present_gradients();
  const std::uint32_t planes = state_planes(c.optimizer);
  for (std::uint64_t step = 1; step <= steps; ++step) {
    const std::vector<float> before = arrays.parameters();
    std::vector<float> states[kMaxStatePlanes];
    for (std::uint32_t s = 0; s < planes; ++s) states[s] = arrays.state(s);
    arrays.update(kernels, step);
    const std::vector<float> after = arrays.parameters();
    for (std::size_t i = 0; i < c.count; ++i) {
      double state[kMaxStatePlanes] = {};
      for (std::uint32_t s = 0; s < planes; ++s) state[s] = states[s][i];
      const float g = contract_sum(gradients, i, c.scale);
      const OracleStep expected = oracle_step(c.optimizer, step, before[i], state, g);
      expect_measured(after[i], expected.parameter, c);
      for (std::uint32_t s = 0; s < planes; ++s)
        expect_measured(arrays.state(s)[i], expected.state[s], c);
    }
    // The wire is the rounded parameters.
    Array wire(c.count * dtype_bytes(c.wire_dtype), 0);
    kernels.encode(after.data(), wire.as<void>(), c.wire_dtype, c.count);
    EXPECT_TRUE(wire.bytes() == arrays.wire().bytes()) << describe(c);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Update, FollowsTheOracleForEveryRuleFormAndDType) {
  for (const KernelTable* kernels : available_kernels())
    for (const OptimizerSpec& spec : optimizer_variants())
      for (DType wire : kDTypes) {
        Case c;
        c.optimizer = spec;
        c.workers = 3;
        c.count = 45;
        c.gradient_dtype = c.wire_dtype = wire;
        c.scale = 1.0F / 3;
        c.seed = 10 + static_cast<std::uint64_t>(spec.kind);
        expect_oracle_steps(*kernels, c, 6);
      }
}

TEST(Update, BiasCorrectionHoldsForLateSteps) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kAdam);
  for (EpsilonForm form : {EpsilonForm::kOutside, EpsilonForm::kHat})
    for (std::uint64_t step : {1ULL, 2ULL, 10ULL, 1000ULL, 1'000'000ULL, 1ULL << 40}) {
      spec.epsilon_form = form;
      const double t = static_cast<double>(step);
      const double first = 1 - std::pow(spec.beta1, t);
      const double second = 1 - std::pow(spec.beta2, t);
      const bool hat = form == EpsilonForm::kHat;
      const Coefficients c = fold(spec, step);
      EXPECT_LE(ulps(c.root_gain, hat ? 1 : 1 / std::sqrt(second)), 0.51);
      EXPECT_LE(ulps(c.step_gain, -0.001 * (hat ? std::sqrt(second) : 1) / first), 0.51);
    }
}

// One element, one target after another: parameters after each step.
std::vector<float> trajectory(const KernelTable& kernels, const std::vector<OptimizerSpec>& specs,
                              float parameter, const std::vector<float>& gradients) {
  std::vector<float> path;
  float state[kMaxStatePlanes] = {};
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const void* gradient = &gradients[i];
    UpdateArgs args;
    args.gradients = &gradient;
    args.workers = 1;
    args.parameters = &parameter;
    for (std::uint32_t s = 0; s < kMaxStatePlanes; ++s) args.state[s] = &state[s];
    args.count = 1;
    kernels.update(fold(specs[i], i + 1), args);
    path.push_back(parameter);
  }
  return path;
}

OptimizerSpec with_rate(OptimizerKind kind, double rate, MomentumForm form) {
  OptimizerSpec spec = default_optimizer(kind);
  spec.learning_rate = rate;
  spec.momentum_form = form;
  return spec;
}

TEST(Update, MomentumFormsPartWhenTheRateChanges) {
  for (const KernelTable* kernels : available_kernels()) {
    const auto run = [&](OptimizerKind kind, MomentumForm form) {
      return trajectory(*kernels, {with_rate(kind, 0.1, form), with_rate(kind, 0.01, form)}, 1,
                        {1, 1});
    };
    // v = 1, then 1.9; p = 1 − 0.1, then − 0.01·1.9.
    EXPECT_FLOAT_EQ(run(OptimizerKind::kMomentum, MomentumForm::kVelocity)[0], 0.9F);
    EXPECT_FLOAT_EQ(run(OptimizerKind::kMomentum, MomentumForm::kVelocity)[1], 0.881F);
    // v = −0.1, then −0.09 − 0.01; p = 0.9, then 0.8.
    EXPECT_FLOAT_EQ(run(OptimizerKind::kMomentum, MomentumForm::kScaledVelocity)[1], 0.8F);
    // p = 1 − 0.1·(1 + 0.9), then − 0.01·(1 + 0.9·1.9).
    EXPECT_FLOAT_EQ(run(OptimizerKind::kNesterov, MomentumForm::kVelocity)[0], 0.81F);
    EXPECT_FLOAT_EQ(run(OptimizerKind::kNesterov, MomentumForm::kVelocity)[1], 0.7829F);
    // v = −0.1, p = 1 − 0.09 − 0.1; v = −0.1, p −= 0.09 + 0.01.
    EXPECT_FLOAT_EQ(run(OptimizerKind::kNesterov, MomentumForm::kScaledVelocity)[1], 0.71F);
  }
}

TEST(Update, FirstAdamwStepIsTheRatePlusTheDecay) {
  for (const KernelTable* kernels : available_kernels()) {
    const OptimizerSpec spec = default_optimizer(OptimizerKind::kAdamW);
    EXPECT_FLOAT_EQ(trajectory(*kernels, {spec}, 1, {0.5F})[0], 0.99899F);
    EXPECT_FLOAT_EQ(trajectory(*kernels, {spec}, 1, {-0.5F})[0], 1.00099F);
  }
}

// MXNet's and MindSpore's form: with no gradient, w −= lr_t·β1·m/(√(β2·v) + ε).
TEST(Update, AdamMovesOnWithoutAGradient) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kAdam);
  spec.epsilon_form = EpsilonForm::kHat;
  for (const KernelTable* kernels : available_kernels()) {
    float p = 1, m = 0.25F, v = 0.5F;
    const void* nothing = nullptr;
    UpdateArgs args;
    args.gradients = &nothing;
    args.workers = 1;
    args.parameters = &p;
    args.state[0] = &m;
    args.state[1] = &v;
    args.count = 1;
    kernels->update(fold(spec, 3), args);
    const double rate = 0.001 * std::sqrt(1 - std::pow(0.999, 3)) / (1 - std::pow(0.9, 3));
    EXPECT_LE(ulps(p, 1 - rate * 0.9 * 0.25 / (std::sqrt(0.999 * 0.5) + 1e-8)), 1);
    EXPECT_LE(ulps(m, 0.225), 1);
    EXPECT_LE(ulps(v, 0.4995), 1);
  }
}

TEST(Update, ClipsTheScaledSumBeforeDecayAndLetsNanThrough) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kSgd);
  spec.learning_rate = 1;
  spec.clip = 0.5;
  spec.weight_decay = 1;
  for (const KernelTable* kernels : available_kernels()) {
    EXPECT_EQ(trajectory(*kernels, {spec}, 2, {10})[0], -0.5F);  // 2 − (0.5 + 2)
    EXPECT_EQ(trajectory(*kernels, {spec}, 2, {-10})[0], 0.5F);  // 2 − (−0.5 + 2)
    EXPECT_EQ(trajectory(*kernels, {spec}, 2, {0.25})[0], -0.25F);
    EXPECT_EQ(trajectory(*kernels, {spec}, 2, {-0.5})[0], 0.5F);
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(trajectory(*kernels, {spec}, 2, {infinity})[0], -0.5F);
    EXPECT_TRUE(std::isnan(trajectory(*kernels, {spec}, 2, {std::nanf("")})[0]));
  }
}

// The velocity after one momentum step shows the sum itself.
float sum_of(const KernelTable& kernels, const std::vector<const float*>& gradients) {
  const std::vector<const void*> pointers(gradients.begin(), gradients.end());
  float p = -0.0F, v = -0.0F;
  UpdateArgs args;
  args.gradients = pointers.data();
  args.workers = static_cast<std::uint32_t>(pointers.size());
  args.parameters = &p;
  args.state[0] = &v;
  args.count = 1;
  kernels.update(fold(default_optimizer(OptimizerKind::kMomentum), 1), args);
  return v;
}

TEST(Update, ALoneContributionIsNotAddedToZero) {
  const float minus_zero = -0.0F;
  for (const KernelTable* kernels : available_kernels()) {
    EXPECT_TRUE(std::signbit(sum_of(*kernels, {&minus_zero}))) << kernels->target;
    EXPECT_TRUE(std::signbit(sum_of(*kernels, {nullptr, &minus_zero, nullptr})));
    EXPECT_FALSE(std::signbit(sum_of(*kernels, {nullptr, nullptr})));  // nothing is +0
  }
}

TEST(Update, SumsInRankOrder) {
  const float big = 0x1p25F, one = 1, minus = -0x1p25F;
  for (const KernelTable* kernels : available_kernels()) {
    EXPECT_EQ(sum_of(*kernels, {&big, &minus, &one}), 1) << kernels->target;
    EXPECT_EQ(sum_of(*kernels, {&big, &one, &minus}), 0) << kernels->target;
    EXPECT_EQ(sum_of(*kernels, {&one, &big, &minus}), 0) << kernels->target;
    EXPECT_EQ(sum_of(*kernels, {nullptr, &big, nullptr, &minus, &one, nullptr}), 1);
  }
}

// Also where a parameter is not a number, and in the whole blocks as well as the rest.
TEST(Update, AssignIsTheScaledSumWhateverWasThere) {
  constexpr std::size_t kCount = 77;
  const std::vector<float> first(kCount, 3), second(kCount, -8);
  const void* gradients[] = {first.data(), nullptr, second.data()};
  for (const KernelTable* kernels : available_kernels()) {
    std::vector<float> parameters(kCount, std::nanf("")), wire(kCount);
    UpdateArgs args;
    args.gradients = gradients;
    args.workers = 3;
    args.parameters = parameters.data();
    args.wire = wire.data();
    args.count = kCount;
    args.scale = 0.5F;
    EXPECT_TRUE(kernels->update(fold(default_optimizer(OptimizerKind::kAssign), 1), args));
    EXPECT_EQ(parameters, std::vector<float>(kCount, -2.5F)) << kernels->target;
    EXPECT_EQ(wire, parameters) << kernels->target;
  }
}

TEST(Update, HalfPrecisionWireOverflowsToInfinity) {
  for (const KernelTable* kernels : available_kernels()) {
    float p = 70000;
    std::uint16_t wire = 0;
    const void* nothing = nullptr;
    UpdateArgs args;
    args.gradients = &nothing;
    args.workers = 1;
    args.parameters = &p;
    args.wire = &wire;
    args.wire_dtype = DType::kFloat16;
    args.count = 1;
    kernels->update(fold(default_optimizer(OptimizerKind::kSgd), 1), args);
    EXPECT_EQ(wire, 0x7c00);
    EXPECT_EQ(p, 70000);
  }
}

TEST(Update, RefusesMoreWorkersThanItHasRoomFor) {
  const std::vector<const void*> none(kMaxWorkers + 1, nullptr);
  float p = 0;
  UpdateArgs args;
  args.gradients = none.data();
  args.workers = kMaxWorkers + 1;
  args.parameters = &p;
  args.count = 1;
  EXPECT_DEATH(best_kernels().update(Coefficients(), args), "65 workers");
}

TEST(Table, ListsScalarFirstAndFindsByName) {
  ASSERT_FALSE(available_kernels().empty());
  EXPECT_STREQ(available_kernels().front()->target, "scalar");
  EXPECT_EQ(&best_kernels(), available_kernels().back());
  for (const KernelTable* kernels : available_kernels())
    EXPECT_EQ(find_kernels(kernels->target), kernels);
  EXPECT_EQ(find_kernels("no such target"), nullptr);
}

}  // namespace
}  // namespace penstock::test

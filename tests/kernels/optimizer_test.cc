// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace penstock::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Optimizer, DefaultsAreValidAndNamesParseBack) {
  for (std::uint32_t i = 0; i < kOptimizerKinds; ++i) {
    const auto kind = static_cast<OptimizerKind>(i);
    EXPECT_TRUE(validate(default_optimizer(kind)).ok());
    EXPECT_EQ(default_optimizer(kind).kind, kind);
    EXPECT_EQ(parse_optimizer(optimizer_name(kind)), kind);
    EXPECT_LE(state_planes(kind), kMaxStatePlanes);
  }
  EXPECT_FALSE(parse_optimizer("adamx").has_value());
  EXPECT_FALSE(parse_optimizer("").has_value());
}

TEST(Optimizer, ValidationNamesTheFieldAndItsValue) {
  struct Field {
    const char* name;
    double OptimizerSpec::*member;
    std::vector<double> bad;
  };
  const Field fields[] = {
      {"learning_rate", &OptimizerSpec::learning_rate, {kNan, kInfinity, -0.5, 1e39}},
      {"momentum", &OptimizerSpec::momentum, {kNan, -0.1, 1.0, 2.0}},
      {"beta1", &OptimizerSpec::beta1, {kNan, -0.1, 1.0, kInfinity}},
      {"beta2", &OptimizerSpec::beta2, {kNan, -0.1, 1.0, kInfinity}},
      {"epsilon", &OptimizerSpec::epsilon, {kNan, 0.0, -1e-8, 1e-40, kInfinity}},
      {"weight_decay", &OptimizerSpec::weight_decay, {kNan, -0.5, kInfinity}},
  };
  for (const Field& field : fields)
    for (double bad : field.bad) {
      OptimizerSpec spec;
      spec.*field.member = bad;
      const Status status = validate(spec);
      EXPECT_EQ(status.code(), Code::kInvalidArgument);
      EXPECT_THAT(status.what(), testing::HasSubstr(field.name));
      EXPECT_THAT(status.what(), testing::HasSubstr(fmt::format("{}", bad)));
    }
}

TEST(Optimizer, ValidationRefusesUnknownKindsAndForms) {
  OptimizerSpec spec;
  spec.kind = static_cast<OptimizerKind>(5);
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("kind is 5"));
  spec = {};
  spec.momentum_form = static_cast<MomentumForm>(2);
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("momentum_form is 2"));
  spec = {};
  spec.epsilon_form = static_cast<EpsilonForm>(255);
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("epsilon_form is 255"));
}

TEST(Optimizer, DecayIsL2ExceptForAdamw) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kAdam);
  spec.weight_decay = 0.5;
  EXPECT_EQ(fold(spec, 1).l2, 0.5F);
  EXPECT_EQ(fold(spec, 1).decay_gain, 0);
  spec.kind = OptimizerKind::kAdamW;
  EXPECT_EQ(fold(spec, 1).l2, 0);
  EXPECT_EQ(fold(spec, 1).decay_gain, -0.0005F);
}

TEST(Optimizer, StepsCountFromOne) {
  EXPECT_DEATH((void)fold(OptimizerSpec(), 0), "steps count from 1");
}

}  // namespace
}  // namespace penstock::test

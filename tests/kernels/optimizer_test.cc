// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/optimizer_text.h"

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
    EXPECT_LE(state_planes(default_optimizer(kind)), kMaxStatePlanes);
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
      {"rho", &OptimizerSpec::rho, {kNan, -0.1, 1.0, kInfinity}},
      {"clip", &OptimizerSpec::clip, {kNan, -0.1, kInfinity}},
      {"l1", &OptimizerSpec::l1, {kNan, -0.1, kInfinity}},
      {"compensation", &OptimizerSpec::compensation, {kNan, -0.1, kInfinity}},
      {"lambda1", &OptimizerSpec::lambda1, {kNan, -0.1, kInfinity}},
      {"lambda2", &OptimizerSpec::lambda2, {kNan, -0.1, kInfinity}},
      {"beta", &OptimizerSpec::beta, {kNan, -0.1, kInfinity}},
      {"initial_accumulator", &OptimizerSpec::initial_accumulator, {kNan, -0.1, kInfinity}},
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
  spec.kind = static_cast<OptimizerKind>(kOptimizerKinds);
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("kind is 15"));
  spec = {};
  spec.momentum_form = static_cast<MomentumForm>(2);
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("momentum_form is 2"));
  spec = {};
  spec.epsilon_form = static_cast<EpsilonForm>(255);
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("epsilon_form is 255"));
}

TEST(Optimizer, ValidationRefusesFormsTheKindDoesNotHave) {
  OptimizerSpec spec = default_optimizer(OptimizerKind::kRmsProp);
  spec.epsilon_form = EpsilonForm::kHat;
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("2 (inside) for rmsprop"));
  spec = default_optimizer(OptimizerKind::kAdam);
  spec.epsilon_form = EpsilonForm::kInside;
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("1 (hat) for adam"));
  spec = default_optimizer(OptimizerKind::kFtrl);
  spec.learning_rate = 0;
  EXPECT_THAT(validate(spec).what(), testing::HasSubstr("learning_rate is 0"));
}

TEST(Optimizer, AssignRefusesWhatItWouldNotHeed) {
  EXPECT_THAT(parse_optimizer_spec("assign:weight_decay=0.1").status().what(),
              testing::HasSubstr("weight_decay is 0.1, but must be 0 for assign"));
  EXPECT_THAT(parse_optimizer_spec("assign:schedule=cosine,period=9").status().what(),
              testing::HasSubstr("schedule is cosine, but assign takes none"));
  EXPECT_THAT(parse_optimizer_spec("assign:warmup=9").status().what(),
              testing::HasSubstr("assign takes none"));
  EXPECT_TRUE(parse_optimizer_spec("assign:clip_norm=1").ok());
}

TEST(Optimizer, TextSetsFieldsByName) {
  const auto spec = parse_optimizer_spec(
      "rmsprop:rho=0.8,momentum=0.5,centred=1,epsilon_form=inside,momentum_form=scaled_velocity");
  ASSERT_TRUE(spec.ok()) << spec.status().to_string();
  OptimizerSpec expected = default_optimizer(OptimizerKind::kRmsProp);
  expected.rho = 0.8;
  expected.momentum = 0.5;
  expected.centred = true;
  expected.epsilon_form = EpsilonForm::kInside;
  expected.momentum_form = MomentumForm::kScaledVelocity;
  EXPECT_EQ(*spec, expected);
  EXPECT_EQ(*parse_optimizer_spec("lion"), default_optimizer(OptimizerKind::kLion));
  EXPECT_EQ(parse_optimizer_spec("ftrl:ftrl_form=doubled")->ftrl_form, FtrlForm::kDoubled);
  const auto staged =
      parse_optimizer_spec("adam:l1=1e-5,compensation=0.04,state_dtype=bf16,rounding_seed=7");
  ASSERT_TRUE(staged.ok()) << staged.status().to_string();
  EXPECT_EQ(staged->l1, 1e-5);
  EXPECT_EQ(staged->compensation, 0.04);
  EXPECT_EQ(staged->state_dtype, StateDType::kBfloat16);
  EXPECT_EQ(staged->rounding_seed, 7U);
  EXPECT_EQ(state_planes(*staged), 3U);
  EXPECT_EQ(state_bytes(*staged), 8U);  // m and v in bf16, `seen` in float32
}

TEST(Optimizer, TextThatMeansNothingIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "called ''"},
      {"adamx", "'adamx'"},
      {"adam:", "has no '='"},
      {"adam:beta1", "'beta1'"},
      {"adam:gamma=1", "'gamma'"},
      {"adam:beta1=x", "beta1 is 'x'"},
      {"adam:beta1=0.5x", "beta1 is '0.5x'"},
      {"adam:beta1=0.5,beta1=0.6", "beta1 is given twice"},
      {"adam:beta1=1", "beta1 is 1"},
      {"adam:beta1=nan", "beta1 is nan"},
      {"adam:epsilon=-1", "epsilon is -1"},
      {"adam:epsilon_form=sideways", "'sideways'"},
      {"adam:beta1=0.5,", "has no '='"},
      {"rmsprop:centred=yes", "'yes'"},
      {"adam:l1=nan", "l1 is nan"},
      {"adam:compensation=-1", "compensation is -1"},
      {"adam:state_dtype=fp16", "state_dtype is 'fp16', but must be fp32 or bf16"},
      {"adam:rounding_seed=-1", "rounding_seed is '-1'"},
      {"ftrl:l1=0.1", "lambda1"},
  };
  for (const auto& [text, expected] : cases) {
    const auto spec = parse_optimizer_spec(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_EQ(spec.status().code(), Code::kInvalidArgument);
    EXPECT_THAT(spec.status().to_string(), testing::HasSubstr(expected)) << text;
  }
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

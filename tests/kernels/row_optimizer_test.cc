// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Which numbers a row optimizer takes, and how it refuses others.

#include "kernels/row_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

namespace penstock::test {
namespace {

RowOptimizerSpec adam(RowRule rule) {
  RowOptimizerSpec spec;
  spec.rule = rule;
  spec.elements = default_optimizer(OptimizerKind::kAdam);
  spec.elements.epsilon_form = EpsilonForm::kHat;
  return spec;
}

void expect_refused(const RowOptimizerSpec& spec, const std::string& words) {
  const Status status = validate(spec);
  EXPECT_EQ(status.code(), Code::kInvalidArgument) << words;
  EXPECT_NE(status.to_string().find(words), std::string::npos) << status.to_string();
}

TEST(RowOptimizer, RefusesByNameAndValue) {
  RowOptimizerSpec spec;
  spec.elements.learning_rate = NAN;
  expect_refused(spec, "learning_rate is nan");
  spec = {};
  spec.elements.l1 = 0.5;
  expect_refused(spec, "elements.l1 is 0.5");
  spec = {};
  spec.elements.compensation = 0.25;
  expect_refused(spec, "elements.compensation is 0.25");
  spec = {};
  spec.elements.state_dtype = StateDType::kBfloat16;
  expect_refused(spec, "elements.state_dtype is 1");
  spec = {};
  spec.rule = static_cast<RowRule>(99);
  expect_refused(spec, "rule is 99, but must be below 8");
  spec = {};
  spec.elements = default_optimizer(OptimizerKind::kLamb);
  expect_refused(spec, "lamb with norms of a whole tensor");
  spec = {};
  spec.rule = RowRule::kRowAdam;
  expect_refused(spec, "elements.kind is sgd, but must be adam");
  spec.rule = RowRule::kPaddleAdaGrad;
  expect_refused(spec, "elements.kind is sgd, but must be adagrad");
  spec = adam(RowRule::kPaddleAdam);
  spec.elements.epsilon_form = EpsilonForm::kOutside;
  expect_refused(spec, "epsilon_form is 0, but must be 1 (hat)");
  for (double square : {0.0, -1.0, 1e-40, 1e39, double{NAN}, HUGE_VAL}) {
    spec = {};
    spec.initial_square = square;
    expect_refused(spec, "initial_square is");
  }
  for (double bound : {double{NAN}, 1e39}) {
    spec = {};
    spec.lower = bound;
    expect_refused(spec, "lower is");
    spec = {};
    spec.upper = bound;
    expect_refused(spec, "upper is");
  }
  spec = {};
  spec.lower = 1;
  spec.upper = -1;
  expect_refused(spec, "lower is 1, but must be at most the upper bound -1");
  spec = {};
  spec.lr_power = -0.7;
  expect_refused(spec, "lr_power is -0.7, but must be -0.5");
}

TEST(RowOptimizer, RefusesPowersThatCannotBe) {
  const RowOptimizerSpec spec = adam(RowRule::kNesterovAdam);
  for (double power : {1.0, -0.1, 1.5, double{NAN}}) {
    EXPECT_EQ(fold_rows_with_powers(spec, power, 0.5).status().code(), Code::kInvalidArgument);
    EXPECT_EQ(fold_rows_with_powers(spec, 0.5, power).status().code(), Code::kInvalidArgument);
  }
  const std::string words = fold_rows_with_powers(spec, 1, 0.5).status().to_string();
  EXPECT_NE(words.find("beta1_power is 1, but must be in [0, 1)"), std::string::npos) << words;
  EXPECT_FALSE(fold_rows_with_powers(adam(RowRule::kRowAdam), 0.5, 0.5).ok());
  EXPECT_FALSE(fold_rows_with_powers(RowOptimizerSpec(), 0.5, 0.5).ok());
  RowOptimizerSpec scheduled = spec;
  scheduled.elements.schedule.warmup = 10;
  EXPECT_FALSE(fold_rows_with_powers(scheduled, 0.5, 0.5).ok());
}

TEST(RowOptimizer, PowersOfTheStepFoldLikeTheStep) {
  for (EpsilonForm form : {EpsilonForm::kHat, EpsilonForm::kOutside})
    for (RowRule rule : {RowRule::kElements, RowRule::kNesterovAdam}) {
      RowOptimizerSpec spec = adam(rule);
      spec.elements.epsilon_form = form;
      spec.elements.beta1 = 0.5;  // powers of halves are exact
      spec.elements.beta2 = 0.75;
      EXPECT_EQ(*fold_rows_with_powers(spec, 0.125, 0.421875), fold_rows(spec, 3));
    }
}

TEST(RowOptimizer, StateStartsWhereTheRuleSays) {
  const RowOptimizerSpec shared = adam(RowRule::kPaddleSharedAdam);
  const float expected[] = {0, 0, 0.9F, 0.999F};
  for (std::uint32_t plane = 0; plane < 4; ++plane)
    EXPECT_EQ(initial_row_state(shared, plane), expected[plane]);
  RowOptimizerSpec adagrad;
  adagrad.rule = RowRule::kRowAdaGrad;
  adagrad.elements = default_optimizer(OptimizerKind::kAdaGrad);
  adagrad.elements.initial_accumulator = 0.5;
  EXPECT_EQ(initial_row_state(adagrad, 0), 0.5F);
}

}  // namespace
}  // namespace penstock::test

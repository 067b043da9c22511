// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/kernel_lists.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::psbench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(KernelLists, NumbersBelongToTheOptimizerBeforeThem) {
  const auto optimizers = parse_optimizers("sgd,rmsprop:rho=0.8,momentum=0.5,lion");
  ASSERT_TRUE(optimizers.ok()) << optimizers.status().to_string();
  ASSERT_EQ(optimizers->size(), 3U);
  EXPECT_EQ((*optimizers)[1].name, "rmsprop:rho=0.8,momentum=0.5");
  EXPECT_EQ((*optimizers)[1].spec.rho, 0.8);
  EXPECT_EQ((*optimizers)[1].spec.momentum, 0.5);
  EXPECT_EQ((*optimizers)[2].spec, default_optimizer(OptimizerKind::kLion));
}

TEST(KernelLists, AllMeansEveryOne) {
  EXPECT_EQ(parse_optimizers("all")->size(), kOptimizerKinds - 3);  // lars, lamb and adafactor
  EXPECT_EQ(parse_optimizers("sgd,lamb").status().code(), Code::kUnsupported);
  EXPECT_EQ(parse_optimizers("sgd:clip_norm=1").status().code(), Code::kUnsupported);
  EXPECT_THAT(*parse_dtypes("all"),
              ElementsAre(DType::kFloat32, DType::kFloat16, DType::kBfloat16));
  EXPECT_EQ(parse_targets("all")->size(), available_kernels().size());
  EXPECT_THAT(*parse_targets("best"), ElementsAre(&best_kernels()));
}

TEST(KernelLists, TakesListsInTheirOrder) {
  EXPECT_THAT(*parse_dtypes("bf16,fp32"), ElementsAre(DType::kBfloat16, DType::kFloat32));
  EXPECT_THAT(*parse_worker_counts("64,1,8"), ElementsAre(64U, 1U, 8U));
  EXPECT_STREQ(parse_targets("scalar")->front()->target, "scalar");
}

void expect_refused(const Status& status, const char* part, const char* hint) {
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.to_string(), HasSubstr(part));
  EXPECT_THAT(status.to_string(), HasSubstr(hint));
}

TEST(KernelLists, NamesWhatItDoesNotKnow) {
  expect_refused(parse_optimizers("sgd,adamx").status(), "'adamx'", "adamw");
  expect_refused(parse_optimizers("momentum=0.5").status(), "momentum=0.5", "sgd");
  expect_refused(parse_dtypes("bf16,fp7").status(), "'fp7'", "fp32");
  expect_refused(parse_targets("AVX9").status(), "'AVX9'", "scalar");
  for (const char* text : {"", "0", "65", "-1", "8,", "x", "1e1", "99999999999"})
    expect_refused(parse_worker_counts(text).status(), "--workers", "1 to 64");
}

}  // namespace
}  // namespace penstock::psbench

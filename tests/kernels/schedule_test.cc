// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kernels/optimizer_text.h"

namespace penstock::test {
namespace {

Schedule parse(const std::string& text) {
  const auto spec = parse_optimizer_spec("sgd:schedule=" + text);
  EXPECT_TRUE(spec.ok()) << spec.status().to_string();
  return spec.ok() ? spec->schedule : Schedule();
}

struct Point {
  const char* schedule;
  std::uint64_t step;
  double rate;  // of a base of 0.5, worked out by hand
};

TEST(Schedule, FollowsTheFormulas) {
  const Point points[] = {
      {"constant", 1, 0.5},
      {"constant", 1'000'000, 0.5},
      {"step,period=10,factor=0.5", 10, 0.5},
      {"step,period=10,factor=0.5", 11, 0.25},
      {"step,period=10,factor=0.5", 31, 0.0625},
      {"step,period=10,factor=0.5,final=0.2", 31, 0.2},
      {"exponential,period=2,factor=0.25", 2, 0.25},
      {"exponential,period=2,factor=0.25", 5, 0.03125},
      {"inverse_time,period=4,factor=2", 3, 0.25},
      {"inverse_time,period=4,factor=2", 9, 0.1},
      {"polynomial,period=10,power=2,final=0.1", 6, 0.2},
      {"polynomial,period=10,power=2,final=0.1", 11, 0.1},
      {"polynomial,period=10,power=2,final=0.1", 999, 0.1},
      {"cosine,period=8,final=0.1", 1, 0.5},
      {"cosine,period=8,final=0.1", 5, 0.3},
      {"cosine,period=8,final=0.1", 9, 0.1},
      {"cosine,period=8,final=0.1", 99, 0.1},
      {"noam,factor=64,period=4", 1, 0.5 / 8 / 8},
      {"noam,factor=64,period=4", 4, 0.5 / 8 / 2},
      {"noam,factor=64,period=4", 16, 0.5 / 8 / 4},
      {"piecewise,boundaries=3/5,multipliers=0.1/0.01", 3, 0.5},
      {"piecewise,boundaries=3/5,multipliers=0.1/0.01", 4, 0.05},
      {"piecewise,boundaries=3/5,multipliers=0.1/0.01", 6, 0.005},
      {"constant,warmup=4", 1, 0},
      {"constant,warmup=4", 3, 0.25},
      {"constant,warmup=4", 5, 0.5},
      {"constant,warmup=4,warmup_start=0.1", 2, 0.2},
      {"step,period=2,factor=0.5,warmup=4", 6, 0.5},
      {"step,period=2,factor=0.5,warmup=4", 7, 0.25},
  };
  for (const Point& point : points)
    EXPECT_NEAR(learning_rate_at(parse(point.schedule), 0.5, point.step), point.rate, 1e-15)
        << point.schedule << " at " << point.step;
}

TEST(Schedule, TheStepTakesTheRateOfItsRound) {
  auto spec = parse_optimizer_spec("adamw:learning_rate=0.5,schedule=step,period=1,factor=0.5");
  ASSERT_TRUE(spec.ok());
  EXPECT_FLOAT_EQ(fold(*spec, 2).decay_gain, -0.25F * 0.01F);
  OptimizerSpec constant = *spec;
  constant.schedule = {};
  constant.learning_rate = 0.25;
  EXPECT_EQ(fold(*spec, 2), fold(constant, 2));
}

TEST(Schedule, WhatCannotBeIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"sgd:schedule=sometimes", "'sometimes'"},
      {"sgd:schedule=step,period=0", "period is 0"},
      {"sgd:schedule=step,period=1.5", "whole number"},
      {"sgd:schedule=step,factor=-1", "factor is -1"},
      {"sgd:schedule=cosine,final=inf", "final is inf"},
      {"sgd:schedule=polynomial,power=nan", "power is nan"},
      {"sgd:warmup=3,warmup_start=-1", "warmup_start is -1"},
      {"sgd:schedule=noam,factor=0", "factor is 0"},
      {"sgd:schedule=noam,factor=8,warmup=2", "warmup is 2"},
      {"sgd:schedule=piecewise", "boundary_count is 0"},
      {"sgd:schedule=piecewise,boundaries=5/5,multipliers=1/2", "boundary is 5"},
      {"sgd:schedule=piecewise,boundaries=5/6,multipliers=1", "1 numbers"},
      {"sgd:schedule=piecewise,boundaries=1/2/3/4/5/6/7/8/9,multipliers=1", "more than 8"},
      {"ftrl:schedule=step", "ftrl takes none"},
      {"ftrl:warmup=3", "ftrl takes none"},
  };
  for (const auto& [text, expected] : cases) {
    const auto spec = parse_optimizer_spec(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_THAT(spec.status().to_string(), testing::HasSubstr(expected)) << text;
  }
  Schedule schedule;
  schedule.kind = static_cast<ScheduleKind>(8);
  EXPECT_THAT(validate(schedule).what(), testing::HasSubstr("kind is 8"));
  schedule = {};
  schedule.boundary_count = kMaxBoundaries + 1;
  EXPECT_THAT(validate(schedule).what(), testing::HasSubstr("boundary_count is 9"));
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/statistics.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace penstock::psbench {
namespace {

std::vector<double> one_to(int n) {
  std::vector<double> samples(static_cast<std::size_t>(n));
  std::iota(samples.begin(), samples.end(), 1.0);
  return samples;
}

TEST(Percentile, IsTheSmallestSampleThatTheShareDoesNotExceed) {
  const std::vector<double> samples = one_to(1000);
  EXPECT_EQ(percentile(samples, 0), 1);
  EXPECT_EQ(percentile(samples, 50), 500);
  EXPECT_EQ(percentile(samples, 50.01), 501);
  EXPECT_EQ(percentile(samples, 99), 990);
  EXPECT_EQ(percentile(samples, 99.9), 999);
  EXPECT_EQ(percentile(samples, 100), 1000);
}

TEST(Percentile, OfFewSamplesIsOneOfThem) {
  EXPECT_EQ(percentile(one_to(1), 99), 1);
  EXPECT_EQ(percentile(one_to(2), 50), 1);
  EXPECT_EQ(percentile(one_to(3), 50), 2);
  EXPECT_EQ(percentile(one_to(99), 99), 99);
}

TEST(Summary, DoesNotNeedSortedSamples) {
  const Summary s = summarize(std::vector<double>{4, 1, 3, 2});
  EXPECT_EQ(s.count, 4U);
  EXPECT_EQ(s.min, 1);
  EXPECT_EQ(s.p50, 2);
  EXPECT_EQ(s.p99, 4);
  EXPECT_EQ(s.max, 4);
  EXPECT_DOUBLE_EQ(s.mean, 2.5);
  EXPECT_DOUBLE_EQ(s.deviation * s.deviation, 5.0 / 3);
}

TEST(Summary, OfNothingIsZero) {
  const Summary s = summarize({});
  EXPECT_EQ(s.count, 0U);
  EXPECT_EQ(s.max, 0);
  EXPECT_EQ(summarize(std::vector<double>{7}).deviation, 0);
}

}  // namespace
}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/initializer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace penstock::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<float> values_of(const InitializerSpec& spec, std::uint64_t key, std::size_t count) {
  std::vector<float> values(count);
  initialize(spec, key, 0, values);
  return values;
}

TEST(Initializer, SlicingChangesNoBit) {
  for (auto kind : {InitializerSpec::kZeros, InitializerSpec::kConstant, InitializerSpec::kUniform,
                    InitializerSpec::kNormal}) {
    const InitializerSpec spec{kind, 0.25, 0.5, 11};
    const std::vector<float> whole = values_of(spec, 3, 1000);
    std::vector<float> cut(whole.size());
    for (std::size_t begin = 0; begin < cut.size();) {
      const std::size_t length = std::min(begin % 37 + 1, cut.size() - begin);
      initialize(spec, 3, begin, std::span(cut).subspan(begin, length));
      begin += length;
    }
    EXPECT_EQ(cut, whole);
  }
}

TEST(Initializer, DependsOnSeedAndKey) {
  const InitializerSpec spec{InitializerSpec::kUniform, 0, 1, 1};
  InitializerSpec other = spec;
  other.seed = 2;
  EXPECT_EQ(values_of(spec, 1, 100), values_of(spec, 1, 100));
  EXPECT_NE(values_of(spec, 1, 100), values_of(other, 1, 100));
  EXPECT_NE(values_of(spec, 1, 100), values_of(spec, 2, 100));
  EXPECT_NE(values_of(other, 1, 100), values_of(spec, 2, 100));
}

TEST(Initializer, ZerosAndConstant) {
  EXPECT_EQ(values_of({InitializerSpec::kZeros, 5, 5, 1}, 1, 3), (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(values_of({InitializerSpec::kConstant, 1.5, 0, 1}, 1, 2),
            (std::vector<float>{1.5, 1.5}));
}

double mean_of(const std::vector<float>& values, int power, double centre) {
  double sum = 0;
  for (float value : values) sum += std::pow(static_cast<double>(value) - centre, power);
  return sum / static_cast<double>(values.size());
}

TEST(Initializer, UniformStaysInRangeWithTheRightMoments) {
  const std::vector<float> values = values_of({InitializerSpec::kUniform, -2, 4, 7}, 1, 200'000);
  EXPECT_GE(*std::min_element(values.begin(), values.end()), -2);
  EXPECT_LE(*std::max_element(values.begin(), values.end()), 4);
  EXPECT_NEAR(mean_of(values, 1, 0), 1, 0.02);
  EXPECT_NEAR(mean_of(values, 2, 1), 3, 0.03);  // 6²/12
}

TEST(Initializer, NormalHasTheRightMoments) {
  const std::vector<float> values = values_of({InitializerSpec::kNormal, 3, 2, 7}, 1, 200'000);
  EXPECT_NEAR(mean_of(values, 1, 0), 3, 0.02);
  EXPECT_NEAR(mean_of(values, 2, 3), 4, 0.05);
  EXPECT_NEAR(mean_of(values, 3, 3), 0, 0.2);
  EXPECT_NEAR(mean_of(values, 4, 3), 48, 1.5);  // 3σ⁴
}

// The sorted values lie on the normal distribution function: the largest gap is below what chance
// explains (Kolmogorov–Smirnov, 1.95/√n at p = 0.001).
TEST(Initializer, NormalFollowsItsDistribution) {
  constexpr std::size_t kCount = 200'000;
  std::vector<float> values = values_of({InitializerSpec::kNormal, 0, 1, 5}, 9, kCount);
  std::sort(values.begin(), values.end());
  double gap = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double expected = 0.5 * std::erfc(-static_cast<double>(values[i]) / std::sqrt(2.0));
    gap = std::max(gap, std::abs(expected - (static_cast<double>(i) + 0.5) / kCount));
  }
  EXPECT_LT(gap, 1.95 / std::sqrt(kCount));
}

// Pins the bits: another machine, compiler or release must give these. Computed apart from this
// code, from SplitMix64 and Python's statistics.NormalDist().inv_cdf.
TEST(Initializer, BitsArePinned) {
  const auto bits = [](const std::vector<float>& values) {
    std::vector<std::uint32_t> out;
    for (float value : values) out.push_back(std::bit_cast<std::uint32_t>(value));
    return out;
  };
  EXPECT_EQ(bits(values_of({InitializerSpec::kUniform, -1, 1, 42}, 1, 3)),
            (std::vector<std::uint32_t>{0x3c707f77, 0x3f27efcb, 0xbf415a0e}));
  EXPECT_EQ(bits(values_of({InitializerSpec::kNormal, 0, 1, 42}, 1, 3)),
            (std::vector<std::uint32_t>{0xbfeeab10, 0xbf2f4d77, 0x3fa9579b}));
}

TEST(Initializer, ValidationNamesTheFieldAndItsValue) {
  const auto what = [](InitializerSpec spec) { return std::string(validate(spec).what()); };
  EXPECT_TRUE(validate(InitializerSpec()).ok());
  EXPECT_TRUE(validate({InitializerSpec::kNormal, 0, 0, 0}).ok());
  EXPECT_THAT(what({InitializerSpec::kConstant, kNan, 0, 0}), testing::HasSubstr("a is nan"));
  EXPECT_THAT(what({InitializerSpec::kUniform, 0, 1e39, 0}), testing::HasSubstr("b is 1e+39"));
  EXPECT_THAT(what({InitializerSpec::kUniform, 2, 1, 0}), testing::HasSubstr("a is 2"));
  EXPECT_THAT(what({InitializerSpec::kNormal, 0, -1, 0}), testing::HasSubstr("b is -1"));
  EXPECT_THAT(what({static_cast<InitializerSpec::Kind>(4), 0, 0, 0}),
              testing::HasSubstr("kind is 4"));
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Optimizers with whole-tensor norms: against the oracle, and all targets against each other.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/math/half.h"
#include "kernels/optimizer_text.h"
#include "kernels/reproducible.h"
#include "tests/kernels/norm_oracle.h"
#include "tests/kernels/support.h"
#include "tests/support/norm_tensor.h"

namespace penstock::test {
namespace {

using Shape = std::vector<std::uint64_t>;

const char* const kSpecs[] = {
    "lars",
    "lars:momentum_form=velocity,epsilon=1e-8,trust=0.02,weight_decay=0.01",
    "lars:clip=0.3,clip_norm=0.7",
    "lars:clip_global_norm=1.5",
    "lamb",
    "lamb:weight_decay=0,clip_norm=0.5",
    "lamb:clip_global_norm=2,clip=0.4",
    "adafactor",
    "adafactor:relative_step=0,scale_parameter=0,weight_decay=0.1,learning_rate=0.05",
    "adafactor:clip_threshold=0.5,beta2_decay=-0.6,clip_norm=0.5",
    "sgd:clip_norm=0.6",
    "adamw:clip_norm=0.6,weight_decay=0.1",
    "momentum:clip_global_norm=1,clip=0.5,weight_decay=0.1",
};

OptimizerSpec parsed(const char* text) {
  const auto spec = parse_optimizer_spec(text);
  CHECK(spec.ok(), "{}", spec.status().to_string());
  return *spec;
}

std::vector<std::size_t> cuts_of(std::size_t elements) {
  std::vector<std::size_t> cuts;
  for (std::size_t cut : {std::size_t{1}, std::size_t{17}, std::size_t{64}, std::size_t{1100}})
    if (cut < elements) cuts.push_back(cut);
  return cuts;
}

void fill(std::vector<float>& values, std::uint64_t seed, Flavour flavour, float scale = 1) {
  SeededRandom random(seed);
  for (float& value : values) value = random_float(random, flavour) * scale;
}

void expect_close(const std::vector<float>& actual, const std::vector<double>& expected,
                  const std::string& what) {
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], 1e-5 * std::abs(expected[i]) + 3e-6 * largest)
        << what << " element " << i;
}

// Steps a tensor of `shape` cut anyhow; each step is checked from the same state.
void expect_oracle(const char* text, const Shape& shape, const KernelTable& kernels) {
  SCOPED_TRACE(fmt::format("{} of {} on {}", text, shape, kernels.target));
  const OptimizerSpec spec = parsed(text);
  std::size_t elements = 1;
  for (const std::uint64_t dimension : shape) elements *= dimension;
  NormTensor tensor(spec, shape, cuts_of(elements), kernels);
  fill(tensor.parameters, 5, Flavour::kOrdinary);
  OracleTensor oracle;
  oracle.shape = shape;
  for (std::uint64_t step = 1; step <= 4; ++step) {
    std::vector<float> gradients[2] = {std::vector<float>(elements), std::vector<float>(elements)};
    fill(gradients[0], 10 + step, Flavour::kOrdinary);
    fill(gradients[1], 20 + step, Flavour::kOrdinary, 0.5F);
    tensor.sum(step, {gradients[0].data(), nullptr, gradients[1].data()}, DType::kFloat32, 0.5F);
    std::vector<double> mean(elements);
    for (std::size_t i = 0; i < elements; ++i)
      mean[i] = static_cast<double>((gradients[0][i] + gradients[1][i]) * 0.5F);
    const double group = tensor.sums().first + 2.5;  // another tensor's
    oracle.parameters.assign(tensor.parameters.begin(), tensor.parameters.end());
    if (spec.kind != OptimizerKind::kAdaFactor) {
      oracle.first.assign(tensor.state[0].begin(), tensor.state[0].end());
      oracle.second.assign(tensor.state[1].begin(), tensor.state[1].end());
      oracle.first.resize(elements);
      oracle.second.resize(elements);
    }
    tensor.finish(group);
    oracle_norm_step(spec, step, oracle, mean, group);
    expect_close(tensor.parameters, oracle.parameters, fmt::format("step {} parameters", step));
    for (std::uint32_t plane = 0; plane < state_planes(spec); ++plane)
      expect_close(tensor.state[plane], plane == 0 ? oracle.first : oracle.second,
                   fmt::format("step {} state {}", step, plane));
  }
}

TEST(Norms, FollowTheOracle) {
  for (const KernelTable* kernels : available_kernels())
    for (const char* text : kSpecs)
      for (const Shape& shape : {Shape{1}, Shape{15}, Shape{70}, Shape{37, 41}, Shape{3, 5, 9},
                                 Shape{50, 1}, Shape{1, 50}, Shape{1, 1}}) {
        expect_oracle(text, shape, *kernels);
        if (HasFailure()) return;
      }
}

std::vector<float> everything(const NormTensor& tensor) {
  std::vector<float> all = tensor.parameters;
  for (const auto& plane : tensor.state) all.insert(all.end(), plane.begin(), plane.end());
  return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(Norms, EveryTargetGivesTheBitsOfScalar) {
  for (const char* text : kSpecs)
    for (Flavour flavour : {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme})
      for (std::size_t elements : {1U, 16U, 45U, 2100U})
        for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBfloat16}) {
          std::vector<float> expected;
          NormSums sums;
          for (const KernelTable* kernels : available_kernels()) {
            NormTensor tensor(parsed(text), {elements}, cuts_of(elements), *kernels);
            fill(tensor.parameters, 5, flavour);
            for (std::uint64_t step = 1; step <= 2; ++step) {
              std::vector<std::vector<float>> values(3, std::vector<float>(elements));
              std::vector<std::vector<std::byte>> wires;
              std::vector<const void*> pointers;
              for (std::size_t w = 0; w < values.size(); ++w) {
                fill(values[w], 10 * w + step, flavour);
                wires.emplace_back(elements * dtype_bytes(dtype));
                kernels->encode(values[w].data(), wires[w].data(), dtype, elements);
              }
              for (const auto& wire : wires) pointers.push_back(wire.data());
              tensor.sum(step, pointers, dtype, 1.0F / 3);
              sums = tensor.sums();
              tensor.finish(sums.first + 1);
            }
            if (expected.empty()) expected = everything(tensor);
            ASSERT_TRUE(same_bits(everything(tensor), expected))
                << text << " " << kernels->target << " " << elements << " flavour "
                << static_cast<int>(flavour) << " " << dtype_name(dtype);
          }
        }
}

TEST(Norms, NothingPushedIsAGradientOfZero) {
  for (const char* text : kSpecs) {
    NormTensor tensor(parsed(text), {20}, {}, best_kernels());
    fill(tensor.parameters, 5, Flavour::kOrdinary);
    tensor.sum(1, {nullptr, nullptr}, DType::kFloat32, 0.5F);
    EXPECT_EQ(tensor.sums().first, 0);
    tensor.finish(0);
    for (const float p : tensor.parameters) EXPECT_TRUE(std::isfinite(p)) << text;
  }
}

TEST(Norms, ZeroParametersMoveByThePlainRate) {
  std::vector<float> gradient(4, 0.5F);
  NormTensor lars(parsed("lars:learning_rate=0.1,weight_decay=0"), {4}, {}, best_kernels());
  lars.sum(1, {gradient.data()}, DType::kFloat32, 1);
  lars.finish(0);
  for (const float p : lars.parameters) EXPECT_FLOAT_EQ(p, -0.05F);
  NormTensor lamb(parsed("lamb:learning_rate=0.1"), {4}, {}, best_kernels());
  lamb.sum(1, {gradient.data()}, DType::kFloat32, 1);
  lamb.finish(0);
  for (const float p : lamb.parameters) EXPECT_NEAR(p, -0.1F, 1e-6);
}

TEST(Norms, ClipLeavesSmallGradientsAlone) {
  std::vector<float> gradient = {3, 4};
  for (const auto& [bound, expected] : {std::pair{5.0, -3.0F}, {1.0, -0.6F}, {10.0, -3.0F}}) {
    OptimizerSpec spec = default_optimizer(OptimizerKind::kSgd);
    spec.learning_rate = 1;
    spec.clip_norm = bound;
    NormTensor tensor(spec, {2}, {1}, best_kernels());
    tensor.sum(1, {gradient.data()}, DType::kFloat32, 1);
    EXPECT_EQ(tensor.sums().first, 25);
    tensor.finish(0);
    EXPECT_FLOAT_EQ(tensor.parameters[0], expected);
  }
}

TEST(Norms, PowersAreThoseOfTheLibraryButForTheLastBits) {
  for (double t : {1.0, 2.0, 3.0, 10.0, 12345.0, 1e9})
    for (double a : {-0.8, -0.5, -1.0, -0.001})
      EXPECT_NEAR(exponential(a * logarithm(t)) / std::pow(t, a), 1, 1e-14) << t << " " << a;
}

TEST(Norms, BadNumbersAreRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"lars:trust=0", "trust is 0"},
      {"lars:epsilon=-1", "epsilon is -1"},
      {"lamb:epsilon=0", "epsilon is 0"},
      {"lamb:beta2=1", "beta2 is 1"},
      {"lamb:epsilon_form=hat", "0 (outside)"},
      {"adafactor:clip_threshold=0", "clip_threshold is 0"},
      {"adafactor:clip_threshold=-1", "clip_threshold is -1"},
      {"adafactor:beta2_decay=0.8", "beta2_decay is 0.8"},
      {"adafactor:relative_step=2", "'2'"},
      {"adam:clip_norm=-1", "clip_norm is -1"},
      {"adam:clip_global_norm=nan", "clip_global_norm is nan"},
      {"adam:clip_norm=1,clip_global_norm=1", "clip_global_norm is 1, but must be 0"},
  };
  for (const auto& [text, expected] : cases) {
    const auto spec = parse_optimizer_spec(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_EQ(spec.status().code(), Code::kInvalidArgument);
    EXPECT_THAT(spec.status().to_string(), testing::HasSubstr(expected)) << text;
  }
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The GPU's passes for norms, run by the CPU in a shuffled order, give the bits of "scalar".

#include <gtest/gtest.h>

#include "kernels/optimizer_text.h"
#include "tests/kernels/cuda_support.h"
#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};
constexpr Flavour kFlavours[] = {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme,
                                 Flavour::kAnyBits};
const std::vector<std::size_t> kCounts = {1, 15, 16, 17, 77, 2047, 2048, 2049, 6001};

LambCoefficients lamb_coefficients() {
  OptimizerSpec adam = default_optimizer(OptimizerKind::kAdam);
  LambCoefficients lamb;
  lamb.moments = fold(adam, 3);
  lamb.moment_gain = 1.2F;
  lamb.weight_decay = 0.01F;
  lamb.rate = -0.003F;
  return lamb;
}

// A slice with two state planes, twice: for "scalar" and for the GPU's bodies.
struct Twin {
  Twin(Case c, std::size_t count, std::uint64_t seed)
      : which(sized(c, count, seed)),
        expected(which),
        actual(which),
        expected_sums(count * sizeof(float), c.offset),
        actual_sums(count * sizeof(float), c.offset) {
    std::fill_n(actual_sums.as<float>(), count, -7.0F);
  }
  static Case sized(Case c, std::size_t count, std::uint64_t seed) {
    c.count = count;
    c.seed = seed;
    return c;
  }
  cuda::SlicePass pass() {
    const UpdateArgs args = actual.args();
    cuda::SlicePass pass;
    for (std::uint32_t w = 0; w < args.workers; ++w)
      if (args.gradients[w] != nullptr) present.push_back(args.gradients[w]);
    pass.gradients = present.data();
    pass.workers = static_cast<std::uint32_t>(present.size());
    pass.count = args.count;
    pass.scale = args.scale;
    pass.aligned = which.offset % 16 == 0;
    pass.sums = actual_sums.as<float>();
    pass.parameters = args.parameters;
    pass.m = static_cast<float*>(args.state[0]);
    pass.v = static_cast<float*>(args.state[1]);
    pass.wire = args.wire;
    pass.wire_dtype = args.wire_dtype;
    pass.norms = &norms;
    return pass;
  }
  LambArgs lamb_args() {
    const UpdateArgs args = expected.args();
    return {expected_sums.as<float>(),
            0.5F,
            args.parameters,
            static_cast<float*>(args.state[0]),
            static_cast<float*>(args.state[1]),
            args.count};
  }
  std::vector<std::byte> results(bool scalar) const {
    std::vector<std::byte> all = (scalar ? expected : actual).results();
    const std::vector<std::byte> sums = (scalar ? expected_sums : actual_sums).bytes();
    all.insert(all.end(), sums.begin(), sums.end());
    return all;
  }
  bool guards_intact() const { return actual.guards_intact() && actual_sums.guards_intact(); }

  Case which;
  Arrays expected, actual;
  Array expected_sums, actual_sums;
  std::vector<const void*> present;
  NormSums norms{-1, -1};
};

bool same_bits(const NormSums& a, const NormSums& b) {
  const auto same = [](double x, double y) { return x == y || (x != x && y != y); };
  return same(a.first, b.first) && same(a.second, b.second);
}

// Slices of these counts side by side through park, squares, lamb's moments, squares and apply.
void expect_scalar_bits(const Case& c, const std::vector<std::size_t>& counts, float clip) {
  using enum cuda::Pass;
  const NormKernels& norms = norm_kernels("scalar");
  const KernelTable& kernels = *find_kernels("scalar");
  const LambCoefficients lamb = lamb_coefficients();
  std::vector<Twin> twins;
  twins.reserve(counts.size());
  for (std::size_t i = 0; i < counts.size(); ++i) twins.emplace_back(c, counts[i], c.seed + i);
  std::vector<cuda::SlicePass> passes;
  for (Twin& twin : twins) {
    passes.push_back(twin.pass());
    passes.back().clip = clip;
    passes.back().lamb = lamb;
  }
  const auto launch = [&](cuda::Pass pass) {
    launch_pass(pass, cuda::gradient_type(c.gradient_dtype), passes, c.seed);
  };
  launch(kPark);
  launch(kSquares);
  for (Twin& twin : twins) {
    const NormSums sums = norms.sum(twin.expected.args(), clip, twin.expected_sums.as<float>());
    ASSERT_TRUE(same_bits(twin.norms, sums))
        << twin.norms.first << " for " << sums.first << ": " << describe(twin.which);
    ASSERT_TRUE(twin.results(true) == twin.results(false)) << "parked: " << describe(twin.which);
  }
  for (cuda::SlicePass& pass : passes) pass.scale = 0.5F;
  launch(kLambMoments);
  launch(kSquares);
  launch(kLambApply);
  for (Twin& twin : twins) {
    const NormSums sums = norms.lamb_moments(lamb, twin.lamb_args());
    ASSERT_TRUE(same_bits(twin.norms, sums)) << describe(twin.which);
    norms.lamb_apply(lamb, twin.lamb_args());
    const UpdateArgs args = twin.expected.args();
    kernels.encode(args.parameters, args.wire, args.wire_dtype, args.count);
    ASSERT_TRUE(twin.expected.results() == twin.actual.results()) << describe(twin.which);
    ASSERT_TRUE(twin.guards_intact()) << describe(twin.which);
  }
}

Case make_case(std::uint64_t seed) {
  Case c;
  c.optimizer = default_optimizer(OptimizerKind::kAdam);
  c.workers = 3;
  c.scale = 1.0F / 3;
  c.seed = seed;
  return c;
}

TEST(CudaNorms, EveryTypeFlavourAndOddSize) {
  for (const DType gradient : kDTypes)
    for (const DType wire : kDTypes)
      for (const Flavour flavour : kFlavours) {
        Case c = make_case(3);
        c.gradient_dtype = gradient;
        c.wire_dtype = wire;
        c.flavour = flavour;
        expect_scalar_bits(c, kCounts, gradient == wire ? kNoClip : 0.3F);
      }
}

TEST(CudaNorms, MisalignedSlicesGoOneByOne) {
  for (const std::size_t offset : {4U, 8U, 12U}) {
    Case c = make_case(offset);
    c.offset = offset;
    expect_scalar_bits(c, {1, 15, 64, 2051}, 0.4F);
  }
}

TEST(CudaNorms, AbsentGradients) {
  for (const std::uint32_t absent : {300'000U, 1'000'000U}) {
    Case c = make_case(absent);
    c.absent_per_million = absent;
    expect_scalar_bits(c, {100, 3000}, kNoClip);
  }
}

}  // namespace
}  // namespace penstock::test

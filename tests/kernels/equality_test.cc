// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Every target gives the bits of "scalar".

#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};

// Runs two steps with every target; expects the scalar's bits and nothing written beyond.
void expect_equal_targets(const Case& c) {
  Arrays expected(c);
  for (std::uint64_t step = 1; step <= 2; ++step) expected.update(*find_kernels("scalar"), step);
  for (const KernelTable* kernels : available_kernels()) {
    Arrays actual(c);
    for (std::uint64_t step = 1; step <= 2; ++step) actual.update(*kernels, step);
    ASSERT_TRUE(actual.results() == expected.results()) << kernels->target << ": " << describe(c);
    ASSERT_TRUE(actual.guards_intact()) << kernels->target << ": " << describe(c);
  }
}

Case base_case(const OptimizerSpec& optimizer, std::uint64_t seed) {
  Case c;
  c.optimizer = optimizer;
  c.optimizer.weight_decay = 0.03;
  c.workers = 3;
  c.count = 77;
  c.scale = 1.0F / 3;
  c.seed = seed;
  return c;
}

TEST(Equality, EveryKindFormAndDType) {
  for (const OptimizerSpec& spec : optimizer_variants())
    for (DType gradient : kDTypes)
      for (DType wire : kDTypes) {
        Case c = base_case(spec, 1 + static_cast<std::uint64_t>(spec.kind));
        c.gradient_dtype = gradient;
        c.wire_dtype = wire;
        expect_equal_targets(c);
      }
}

TEST(Equality, SubnormalInfiniteAndNanValues) {
  for (const OptimizerSpec& spec : optimizer_variants())
    for (DType gradient : kDTypes)
      for (DType wire : kDTypes)
        for (Flavour flavour : {Flavour::kSubnormal, Flavour::kExtreme, Flavour::kAnyBits}) {
          Case c = base_case(spec, 7);
          c.gradient_dtype = gradient;
          c.wire_dtype = wire;
          c.flavour = flavour;
          c.count = 301;
          expect_equal_targets(c);
        }
}

TEST(Equality, EveryCountUpToSeveralBlocks) {
  for (std::size_t count = 1; count <= 130; ++count) {
    Case c = base_case(default_optimizer(OptimizerKind::kAdamW), count);
    c.gradient_dtype = c.wire_dtype = kDTypes[count % 3];
    c.count = count;
    expect_equal_targets(c);
  }
}

TEST(Equality, AnyNumberOfWorkersWithAndWithoutAbsentOnes) {
  for (std::uint32_t workers : {1U, 2U, 3U, 5U, 7U, 8U, 9U, 16U, 33U, 64U})
    for (std::uint32_t absent : {0U, 300'000U, 1'000'000U})
      for (DType gradient : kDTypes) {
        Case c = base_case(default_optimizer(OptimizerKind::kAdam), workers);
        c.workers = workers;
        c.gradient_dtype = gradient;
        c.wire_dtype = DType::kBfloat16;
        c.absent_per_million = absent;
        expect_equal_targets(c);
      }
}

// Many workers are summed in groups, chunk by chunk.
TEST(Equality, ManyWorkersOverSeveralChunks) {
  for (std::uint32_t workers : {9U, 17U, 64U})
    for (std::size_t count : {1023U, 1024U, 1056U, 2500U}) {
      Case c = base_case(default_optimizer(OptimizerKind::kMomentum), workers + count);
      c.workers = workers;
      c.count = count;
      c.gradient_dtype = c.wire_dtype = kDTypes[count % 3];
      expect_equal_targets(c);
    }
}

TEST(Equality, MisalignedPointersAndStreamedWire) {
  for (std::size_t offset : {0U, 4U, 12U, 32U, 60U})
    for (bool stream : {false, true})
      for (DType dtype : kDTypes) {
        Case c = base_case(default_optimizer(OptimizerKind::kNesterov), offset + 1);
        c.gradient_dtype = c.wire_dtype = dtype;
        c.offset = offset;
        c.stream_wire = stream;
        c.count = 333;
        expect_equal_targets(c);
      }
}

TEST(Equality, WithoutWire) {
  for (const OptimizerSpec& spec : optimizer_variants()) {
    Case c = base_case(spec, 5);
    c.has_wire = false;
    expect_equal_targets(c);
  }
}

TEST(Equality, RandomCases) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    SeededRandom random(seed * 1'000'003);
    Case c = base_case(optimizer_variants()[random.below(optimizer_variants().size())], seed);
    c.workers = 1 + static_cast<std::uint32_t>(random.below(12));
    c.count = 1 + random.below(600);
    c.gradient_dtype = kDTypes[random.below(3)];
    c.wire_dtype = kDTypes[random.below(3)];
    c.flavour = static_cast<Flavour>(random.below(4));
    c.offset = 4 * random.below(16);
    c.stream_wire = random.chance(500'000);
    c.absent_per_million = 200'000;
    expect_equal_targets(c);
  }
}

TEST(Equality, CuttingIntoSlicesChangesNoBit) {
  Case c = base_case(default_optimizer(OptimizerKind::kAdamW), 3);
  c.count = 500;
  c.gradient_dtype = DType::kBfloat16;
  c.wire_dtype = DType::kFloat16;
  for (const KernelTable* kernels : available_kernels()) {
    Arrays whole(c), cut(c);
    whole.update(*kernels, 1);
    const UpdateArgs all = cut.args();
    for (std::size_t begin = 0; begin < c.count;) {
      const std::size_t length = std::min<std::size_t>(begin % 71 + 1, c.count - begin);
      const void* gradients[kMaxWorkers];
      for (std::uint32_t w = 0; w < all.workers; ++w)
        gradients[w] = static_cast<const std::uint16_t*>(all.gradients[w]) + begin;
      UpdateArgs part = all;
      part.gradients = gradients;
      part.parameters += begin;
      for (std::uint32_t s = 0; s < state_planes(c.optimizer); ++s)
        part.state[s] = static_cast<float*>(all.state[s]) + begin;
      part.wire = static_cast<std::uint16_t*>(all.wire) + begin;
      part.count = length;
      kernels->update(fold(c.optimizer, 1), part);
      begin += length;
    }
    EXPECT_TRUE(cut.results() == whole.results()) << kernels->target;
  }
}

}  // namespace
}  // namespace penstock::test

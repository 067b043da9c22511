// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Gradients with a NaN or an infinity: accepted, skipped, or failing the round; copied or in place.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/table.h"
#include "tests/engine/hand_job.h"

namespace penstock::test {
namespace {

constexpr Rank kWorkers = 3;
constexpr std::uint64_t kElements = 9'001;  // several slices on each of two servers and lanes
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct NotFiniteRounds : ::testing::TestWithParam<bool> {
  NotFiniteRounds() : job(options()) {}
  static HandJobOptions options() {
    HandJobOptions options;
    options.workers = kWorkers;
    options.servers = 2;
    options.lanes = 2;
    return options;
  }
  static bool in_place() { return GetParam(); }

  void declare(NotFinite policy, Reduce reduce = Reduce::kSum) {
    std::vector<Ticket> tickets;
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      Tensor tensor = counted[rank].tensor(1);
      tensor.spec.not_finite = policy;
      tensor.spec.reduce = reduce;
      if (in_place()) {
        memory.push_back(job.worker(rank).allocate(kElements * sizeof(float)).value());
        tensor.gradients = memory.back()->bytes();
      }
      tickets.push_back(job.worker(rank).begin_declare({tensor}));
    }
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      const Status declared = job.finish(rank, tickets[rank]);
      ASSERT_TRUE(declared.ok()) << declared.to_string();
    }
  }
  std::span<float> gradients(Rank rank) {
    if (!in_place()) return counted[rank].gradients;
    return {reinterpret_cast<float*>(memory[rank]->bytes().data()), kElements};
  }
  // Everybody pushes ones; where `bad` is not 0, worker r has bad[r] in the middle.
  void push(Round round, const std::vector<float>& bad = {0, 0, 0}) {
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      std::fill(gradients(rank).begin(), gradients(rank).end(), 1.0F);
      if (bad[rank] != 0) gradients(rank)[kElements / 2] = bad[rank];
      ASSERT_TRUE(job.worker(rank).push_pull(1, round).ok());
    }
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); }));
  }
  Status wait(Rank rank, Round round) { return job.worker(rank).wait(1, round, 0); }
  void expect_parameters(float value) {
    for (Rank rank = 0; rank < kWorkers; ++rank)
      for (const float parameter : counted[rank].parameters) ASSERT_EQ(parameter, value);
  }
  std::uint64_t noticed() { return job.server(0).not_finite() + job.server(1).not_finite(); }
  std::uint64_t noticed_from(Rank rank) {
    return job.server(0).not_finite_from(rank) + job.server(1).not_finite_from(rank);
  }

  HandJob job;
  std::vector<Counted> counted = std::vector<Counted>(kWorkers, Counted(kElements));
  std::vector<std::shared_ptr<const MemoryRegion>> memory;
};

TEST_P(NotFiniteRounds, SkipLeavesOutTheWholeKeyOfThatWorker) {
  declare(NotFinite::kSkip);
  push(1);
  expect_parameters(-3);
  EXPECT_EQ(noticed(), 0U);
  push(2, {0, kNan, 0});
  expect_parameters(-5);
  push(3, {kInfinity, 0, -kInfinity});
  expect_parameters(-6);
  push(4, {kNan, kNan, kInfinity});
  expect_parameters(-6);
  push(5);
  expect_parameters(-9);
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    EXPECT_TRUE(wait(rank, 5).ok());
    EXPECT_EQ(job.worker(rank).not_finite(), 2U);
  }
  const std::uint64_t slices = noticed() / 3;
  EXPECT_GT(slices, 4U);
  for (Rank rank = 0; rank < kWorkers; ++rank) EXPECT_EQ(noticed_from(rank), 2 * slices);
}

TEST_P(NotFiniteRounds, AMeanDividesBySkippedWorkersToo) {
  declare(NotFinite::kSkip, Reduce::kMean);
  push(1, {0, 0, kNan});
  const float third = 1.0F / 3;
  expect_parameters(-(2 * third));
}

TEST_P(NotFiniteRounds, FailLeavesEverythingAndTellsEveryWorkerOnce) {
  declare(NotFinite::kFail);
  push(1);
  expect_parameters(-3);
  Round round = 0;
  for (const std::vector<float>& bad :
       {std::vector<float>{0, kNan, 0}, {kInfinity, 0, 0}, {kNan, kNan, kNan}}) {
    push(round += 2, bad);
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      const Status status = wait(rank, round);
      EXPECT_EQ(status.code(), Code::kNotFinite);
      const std::string text = status.to_string();
      EXPECT_NE(text.find("key 1 'counted': round " + std::to_string(round)), text.npos) << text;
      EXPECT_NE(text.find(bad[rank] != 0 ? "own" : "another"), text.npos) << text;
    }
    expect_parameters(-3.0F * static_cast<float>(round / 2));
    push(round + 1);  // the next one works, and takes the gradient from the same slots
    for (Rank rank = 0; rank < kWorkers; ++rank) EXPECT_TRUE(wait(rank, round + 1).ok());
    expect_parameters(-3.0F * static_cast<float>(round / 2 + 1));
  }
  EXPECT_EQ(job.worker(1).not_finite(), 2U);
  EXPECT_GT(noticed(), 0U);
}

TEST_P(NotFiniteRounds, FailAnswersWithTheParametersFromBefore) {
  declare(NotFinite::kFail);
  push(1);
  for (Counted& mine : counted) mine.parameters.assign(kElements, 77);
  push(2, {0, 0, kInfinity});
  expect_parameters(-3);
}

TEST_P(NotFiniteRounds, AcceptSumsThemAndNoticesTheSlice) {
  declare(NotFinite::kAccept);
  push(1, {0, kInfinity, 0});
  EXPECT_EQ(noticed(), 1U);
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    EXPECT_TRUE(wait(rank, 1).ok());
    EXPECT_EQ(job.worker(rank).not_finite(), 0U);
    EXPECT_EQ(noticed_from(rank), 0U);
    EXPECT_EQ(counted[rank].parameters[kElements / 2], -kInfinity);
    EXPECT_EQ(counted[rank].parameters[0], -3);
  }
  push(2);
  EXPECT_EQ(noticed(), 1U);
}

TEST_P(NotFiniteRounds, PushNothingIsNeverLookedAt) {
  declare(NotFinite::kFail);
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    std::fill(gradients(rank).begin(), gradients(rank).end(), rank == 0 ? kNan : 1.0F);
    const Status pushed =
        rank == 0 ? job.worker(rank).push_nothing(1, 1) : job.worker(rank).push_pull(1, 1);
    ASSERT_TRUE(pushed.ok());
  }
  ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, 1); }));
  EXPECT_TRUE(wait(0, 1).ok());
  expect_parameters(-2);
}

INSTANTIATE_TEST_SUITE_P(Gradients, NotFiniteRounds, ::testing::Values(false, true),
                         [](const auto& suite) { return suite.param ? "InPlace" : "Copied"; });

TEST(GradientScale, MultipliesTheSumAndTheMean) {
  for (const Reduce reduce : {Reduce::kSum, Reduce::kMean}) {
    HandJobOptions options;
    options.workers = 2;
    HandJob job(options);
    std::vector<Counted> counted(2, Counted(100));
    std::vector<Ticket> tickets;
    for (Rank rank = 0; rank < 2; ++rank) {
      Tensor tensor = counted[rank].tensor(1);
      tensor.spec.reduce = reduce;
      tensor.spec.gradient_scale = 0.125;
      tickets.push_back(job.worker(rank).begin_declare({tensor}));
    }
    for (Rank rank = 0; rank < 2; ++rank) ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
    for (Rank rank = 0; rank < 2; ++rank) {
      counted[rank].gradients.assign(100, 8);
      ASSERT_TRUE(job.worker(rank).push_pull(1, 1).ok());
    }
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, 1); }));
    EXPECT_EQ(counted[1].parameters[99], reduce == Reduce::kSum ? -2 : -1);
  }
}

TEST(Bf16State, TakesHalfTheMemoryAndMatchesTheKernel) {
  constexpr std::uint64_t kCount = 64'000;
  std::uint64_t memory[2] = {};
  for (const StateDType dtype : {StateDType::kFloat32, StateDType::kBfloat16}) {
    HandJobOptions options;
    options.servers = 2;
    options.slice_bytes = 16'384;
    HandJob job(options);
    Counted counted(kCount);
    Tensor tensor = counted.tensor(1);
    OptimizerSpec& optimizer = tensor.spec.optimizer;
    optimizer = default_optimizer(OptimizerKind::kAdamW);
    optimizer.state_dtype = dtype;
    optimizer.compensation = 0.1;
    optimizer.l1 = 0.01;
    ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({tensor})).ok());
    std::vector<float> parameters(kCount), seen(kCount);
    std::vector<std::byte> planes[2];
    UpdateArgs args;
    const void* const gradient = counted.gradients.data();
    args.gradients = &gradient;
    args.workers = 1;
    args.parameters = parameters.data();
    for (std::uint32_t s = 0; s < 2; ++s) {
      planes[s].resize(kCount * state_bytes(optimizer, s));
      args.state[s] = planes[s].data();
    }
    args.state[2] = seen.data();
    args.count = kCount;
    for (Round round = 1; round <= 3; ++round) {
      for (std::uint64_t i = 0; i < kCount; ++i)
        counted.gradients[i] = static_cast<float>((i * round) % 17) / 8 - 1;
      ASSERT_TRUE(job.worker(0).push_pull(1, round).ok());
      ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); }));
      best_kernels().update(fold(optimizer, round), args);  // the whole key at once
      ASSERT_EQ(counted.parameters, parameters) << "round " << round;
    }
    memory[static_cast<std::size_t>(dtype)] =
        job.server(0).memory_bytes() + job.server(1).memory_bytes();
  }
  EXPECT_EQ(memory[0] - memory[1], 2 * kCount * 2);  // two planes, two bytes less each
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Servers whose parameters, state and slots are a GPU's, against servers of host memory.

#include <gtest/gtest.h>

#include "tests/engine/training.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/host_gpu/host_gpu.h"
#include "transport/shm/device.h"

namespace penstock::test {
namespace {

constexpr std::uint32_t kWorkers = 2;

class GpuServer : public ::testing::TestWithParam<const char*> {};

TEST_P(GpuServer, GivesTheBitsOfAHostServer) {
  HandJobOptions options;
  options.transport = GetParam();
  options.workers = kWorkers;
  options.lanes = 2;
  const Trained expected = train(options, 6);
  ASSERT_TRUE(expected.status.ok()) << expected.status.to_string();
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    FakeCuda cuda;
    HostGpu gpu(cuda, seed);
    options.compute = &gpu;
    const Trained trained = train(options, 6);
    ASSERT_TRUE(trained.status.ok()) << trained.status.to_string();
    for (std::size_t round = 0; round < expected.rounds.size(); ++round)
      ASSERT_TRUE(trained.rounds[round] == expected.rounds[round])
          << "round " << round << " with seed " << seed;
    EXPECT_GT(gpu.steps(), 6U * 7);
    EXPECT_GT(gpu.passes(), 6U * 7);
    EXPECT_LT(2 * gpu.launches(), gpu.steps()) << "ready slices do not go together";
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, GpuServer, ::testing::Values("loopback", "tcp", "shm"),
                         [](const auto& suite) { return suite.param; });

// Norms of tensors that lie on several servers and lanes, and those of several tensors together.
TEST(GpuServers, GiveTheBitsOfHostServers) {
  HandJobOptions options;
  options.workers = kWorkers;
  options.servers = 2;
  options.lanes = 2;
  const Trained expected = train(options, 4);
  FakeCuda cuda;
  HostGpu gpu(cuda, 5);
  options.compute = &gpu;
  const Trained trained = train(options, 4);
  ASSERT_TRUE(trained.status.ok()) << trained.status.to_string();
  EXPECT_TRUE(trained.rounds == expected.rounds);
}

// It registers GPU memory for others to map; writes into it are refused.
TEST(GpuServerOverShm, GradientsAreStagedAlthoughShmLendsGpuMemory) {
  FakeCuda cuda;
  HostGpu gpu(cuda);
  SystemClock clock;
  HandJobOptions options;
  options.open = [&](Incarnation incarnation) {
    return open_shm_device({incarnation, &cuda.driver()}, clock);
  };
  options.workers = kWorkers;
  const Trained expected = train(options, 3);
  options.compute = &gpu;
  const Trained trained = train(options, 3);
  ASSERT_TRUE(trained.status.ok()) << trained.status.to_string();
  EXPECT_TRUE(trained.rounds == expected.rounds);
}

struct OneKey {
  FakeCuda cuda;
  HostGpu gpu{cuda};
  std::vector<Counted> counted = std::vector<Counted>(kWorkers, Counted(20'000));
  std::unique_ptr<HandJob> job;
  TensorSpec spec = counted[0].tensor(1).spec;

  OneKey() {
    HandJobOptions options;
    options.workers = kWorkers;
    options.compute = &gpu;
    job = std::make_unique<HandJob>(options);
  }
  Status declare() {
    std::vector<Ticket> tickets;
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      Tensor tensor = counted[rank].tensor(1);
      tensor.spec = spec;
      tickets.push_back(job->worker(rank).begin_declare({tensor}));
    }
    Status status;
    for (Rank rank = 0; rank < kWorkers; ++rank) status = job->finish(rank, tickets[rank]);
    return status;
  }
  void push(Round round) {
    for (Rank rank = 0; rank < kWorkers; ++rank)
      EXPECT_TRUE(job->worker(rank).push_pull(1, round).ok());
  }
  bool run(Round round) {
    push(round);
    return job->run_until([&] { return job->round_finished(1, round); });
  }
  Status failure() {
    EXPECT_TRUE(job->run_until([&] {
      return job->worker(0).failure().has_value() && job->worker(1).failure().has_value();
    }));
    return job->worker(0).failure().value_or(Status());
  }
};

void expect_steady(OneKey& key) {
  ASSERT_TRUE(key.declare().ok());
  Round round = 1;
  for (; round <= 20; ++round) ASSERT_TRUE(key.run(round));
  const std::uint64_t allocations = key.gpu.allocations(), pins = key.gpu.pins();
  Round quiet = 0;
  std::uint64_t heartbeats = UINT64_MAX;  // when the round before this one began
  for (; round <= 60; ++round) {
    const std::uint64_t heap = heap_allocations(), heartbeats_now = key.job->heartbeats();
    ASSERT_TRUE(key.run(round));
    if (key.job->heartbeats() == heartbeats) {  // heartbeats are control's and may allocate
      ++quiet;
      EXPECT_EQ(heap_allocations() - heap, 0U) << "round " << round;
    }
    heartbeats = heartbeats_now;
  }
  EXPECT_GT(quiet, 0U);
  EXPECT_EQ(key.gpu.allocations(), allocations);
  EXPECT_EQ(key.gpu.pins(), pins);
}

TEST(GpuServerJob, ARoundAllocatesNothingAndPinsNothing) {
  OneKey key;
  expect_steady(key);
}

TEST(GpuServerJob, ARoundWithNormsOfEncodedGradientsAllocatesNothing) {
  for (const CodecKind codec : {CodecKind::kInt8, CodecKind::kTopK}) {
    OneKey key;
    key.spec.optimizer = default_optimizer(OptimizerKind::kLamb);
    key.spec.codec.kind = codec;
    expect_steady(key);
  }
}

TEST(GpuServerJob, WhatItHasNoKernelsForIsRefusedInWords) {
  OneKey key;
  key.spec.optimizer = default_optimizer(OptimizerKind::kAdaFactor);
  const Status declared = key.declare();
  EXPECT_EQ(declared.code(), Code::kUnsupported) << declared.to_string();
  EXPECT_NE(declared.to_string().find("no optimizer adafactor"), std::string::npos);
  EXPECT_NE(declared.to_string().find("--server-memory host"), std::string::npos);
}

TEST(GpuServerJob, WaitsForNothingWhileTheGpuIsBusy) {
  OneKey key;
  ASSERT_TRUE(key.declare().ok());
  key.gpu.stall(true);
  key.push(1);
  for (int i = 0; i < 1000; ++i) key.job->step();
  EXPECT_FALSE(key.job->round_finished(1, 1));
  EXPECT_FALSE(key.job->server(0).lanes()[0]->arm()) << "it must look again";
  key.gpu.stall(false);
  EXPECT_TRUE(key.job->run_until([&] { return key.job->round_finished(1, 1); }));
  EXPECT_TRUE(key.job->server(0).lanes()[0]->stats().updates > 0);
}

TEST(GpuServerJob, EndsWithUpdatesPending) {
  OneKey key;
  ASSERT_TRUE(key.declare().ok());
  key.gpu.stall(true);
  key.push(1);
  for (int i = 0; i < 1000; ++i) key.job->step();
  key.job.reset();  // Expect the stream to be drained before its memory goes.
  EXPECT_GT(key.gpu.launches(), 0U);
}

TEST(GpuServerJob, AFailingGpuEndsTheJobNamingTheServerAndTheReason) {
  OneKey key;
  ASSERT_TRUE(key.declare().ok());
  ASSERT_TRUE(key.run(1));
  key.gpu.fail_after(5);
  key.push(2);
  const Status failure = key.failure();
  EXPECT_EQ(failure.code(), Code::kSystem) << failure.to_string();
  EXPECT_NE(failure.to_string().find("fails as it was told"), std::string::npos);
  EXPECT_NE(failure.to_string().find("server 0"), std::string::npos) << failure.to_string();
}

TEST(GpuServerJob, TooLittleGpuMemoryFailsTheDeclaration) {
  OneKey key;
  key.gpu.limit_memory(100'000);
  const Status declared = key.declare();
  EXPECT_EQ(declared.code(), Code::kExhausted) << declared.to_string();
}

TEST(GpuServerJob, RemovedKeysGiveTheirMemoryToTheNext) {
  OneKey key;
  ASSERT_TRUE(key.declare().ok());
  const std::uint64_t bytes = key.job->server(0).memory_bytes();
  EXPECT_GT(bytes, 2 * 20'000 * sizeof(float)) << "host and GPU copies count";
  for (int again = 0; again < 3; ++again) {
    ASSERT_TRUE(key.run(1));
    std::vector<Ticket> tickets;
    for (Rank rank = 0; rank < kWorkers; ++rank)
      tickets.push_back(key.job->worker(rank).begin_remove({1}));
    for (Rank rank = 0; rank < kWorkers; ++rank)
      ASSERT_TRUE(key.job->finish(rank, tickets[rank]).ok());
    ASSERT_TRUE(key.declare().ok());
    EXPECT_EQ(key.job->server(0).memory_bytes(), bytes);
  }
  ASSERT_TRUE(key.run(1));
}

TEST(GpuServerJob, ParametersCanBeReadInTheServersMemory) {
  OneKey key;
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    std::fill(key.counted[rank].gradients.begin(), key.counted[rank].gradients.end(), 1.0F);
    Tensor tensor = key.counted[rank].tensor(1);
    tensor.view = true;
    tickets.push_back(key.job->worker(rank).begin_declare({tensor}));
  }
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    const Status declared = key.job->finish(rank, tickets[rank]);
    ASSERT_TRUE(declared.ok()) << declared.to_string();
  }
  for (Round round = 1; round <= 3; ++round) {
    ASSERT_TRUE(key.run(round));
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      const std::vector<ParameterPiece> pieces = key.job->worker(rank).view(1).value();
      ASSERT_FALSE(pieces.empty());
      for (const ParameterPiece& piece : pieces) {
        const auto* const values = reinterpret_cast<const float*>(piece.bytes.data());
        for (std::size_t i = 0; i < piece.bytes.size() / sizeof(float); ++i)
          ASSERT_EQ(values[i], -static_cast<float>(kWorkers * round));
      }
    }
  }
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// GPU servers as nodes, with their real threads.

#include <gtest/gtest.h>

#include "tests/bindings/job.h"
#include "tests/engine/hand_job.h"
#include "tests/support/host_gpu/host_gpu.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kElements = 50'000;
constexpr Round kRounds = 8;

TEST(GpuNode, TrainsWithThreadsOverTcp) {
  FakeCuda cuda;
  HostGpu gpu(cuda);
  JobOptions options;
  options.workers = options.servers = options.lanes = 2;
  options.compute = &gpu;
  Job job(options);
  ASSERT_FALSE(::testing::Test::HasFailure());
  job.each_worker([&](Rank rank) {
    Worker& worker = job.workers[rank]->worker();
    Counted counted(kElements);
    const Status declared = worker.declare({counted.tensor(1)});
    ASSERT_TRUE(declared.ok()) << declared.to_string();
    for (Round round = 1; round <= kRounds; ++round) {
      for (std::uint64_t i = 0; i < kElements; ++i)
        counted.gradients[i] = static_cast<float>(rank + 1 + i % 3);
      ASSERT_TRUE(worker.push_pull(1, round).ok());
      const Status waited = worker.wait(1, round);
      ASSERT_TRUE(waited.ok()) << waited.to_string();
      for (std::uint64_t i = 0; i < kElements; ++i)
        ASSERT_EQ(counted.parameters[i], -static_cast<float>(round * (3 + 2 * (i % 3))));
    }
    EXPECT_TRUE(worker.leave().ok());
  });
  for (const auto& server : job.servers) EXPECT_TRUE(server->wait(job.deadline_ns()).ok());
  EXPECT_GT(gpu.launches(), 0U);
}

TEST(GpuNode, WithoutAGpuAServerDoesNotStartAndSaysWhatIsMissing) {
  Job job({});
  NodeOptions options = job.node_options(0);
  options.server_memory = ServerMemory::kCuda;
  const auto server = ServerNode::start(options);
  if (server.ok()) GTEST_SKIP() << "this host has a GPU";
  EXPECT_EQ(server.status().code(), Code::kUnsupported) << server.status().to_string();
  EXPECT_NE(server.status().to_string().find("GPU"), std::string::npos);
  EXPECT_TRUE(job.workers[0]->worker().leave().ok());
}

}  // namespace
}  // namespace penstock::test

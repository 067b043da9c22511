// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// GPU servers over verbs: fake cards that write into the memory of a fake GPU.

#include <gtest/gtest.h>

#include "tests/engine/gpu_net.h"
#include "tests/engine/training.h"
#include "tests/support/host_gpu/host_gpu.h"

namespace penstock::test {
namespace {

HandJobOptions job_options() {
  HandJobOptions options;
  options.workers = 2;
  options.lanes = 2;
  return options;
}

constexpr Round kRounds = 4;

void expect_the_bits_of_a_host_server(GpuNet& net, ComputeDevice& gpu) {
  HandJobOptions options = job_options();
  options.open = [&net](Incarnation incarnation) { return net.open(incarnation); };
  options.compute = &gpu;
  const Trained trained = train(options, kRounds);
  ASSERT_TRUE(trained.status.ok()) << trained.status.to_string();
  EXPECT_TRUE(trained.rounds == train(job_options(), kRounds).rounds);
}

TEST(GpuServerOverVerbs, GradientsArriveInGpuMemoryAndAreFlushed) {
  FakeCuda cuda;  // a GPU whose kernels see what cards wrote after a flush only
  HostGpu gpu(cuda);
  GpuNet net(cuda);
  expect_the_bits_of_a_host_server(net, gpu);
  EXPECT_GT(cuda.flushes(), 2 * static_cast<int>(kRounds));
}

TEST(GpuServerOverVerbs, AGpuThatOrdersArrivalsIsNotFlushed) {
  FakeCuda cuda(std::vector<FakeGpu>{{.ordering = 100}});
  HostGpu gpu(cuda);
  GpuNet net(cuda);
  expect_the_bits_of_a_host_server(net, gpu);
  EXPECT_EQ(cuda.flushes(), 0);
}

TEST(GpuServerOverVerbs, AGpuTheCardDoesNotReachIsStaged) {
  FakeCuda cuda;
  HostGpu gpu(cuda);
  GpuNet net(cuda, PciDistance::kMachine);
  expect_the_bits_of_a_host_server(net, gpu);
  EXPECT_EQ(cuda.flushes(), 0);
}

}  // namespace
}  // namespace penstock::test

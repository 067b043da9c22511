// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// GPU servers over verbs: fake cards that write into the memory of a fake GPU.

#include <gtest/gtest.h>

#include "tests/engine/training.h"
#include "tests/support/fake_nic/fabric.h"
#include "tests/support/host_gpu/host_gpu.h"
#include "transport/verbs/open.h"

namespace penstock::test {
namespace {

// Every device has the one card of the fabric, so far from the GPU.
struct Net {
  explicit Net(FakeCuda& cuda, PciDistance distance = PciDistance::kSwitch)
      : fabric(clock, specs()) {
    const std::vector<std::string> cards{specs().nics[0].name};
    host = fake_gpu_host(cuda, cards, {distance});
    cuda.on_export = [this](int fd, std::span<std::byte> contents) {
      fabric.add_dmabuf(fd, contents);
    };
  }
  ~Net() {
    EXPECT_EQ(fabric.violations(), "");
    EXPECT_EQ(fabric.leaks(), "");
  }
  static FabricOptions specs() {
    FabricOptions options;
    for (FakeNicSpec& nic : options.nics) nic.dmabuf = true;
    return options;
  }
  Result<std::unique_ptr<Device>> open(Incarnation incarnation) {
    VerbsOptions options;
    options.incarnation = incarnation;
    return open_verbs_device(fabric.api(), options, clock, host);
  }

  SystemClock clock;
  FakeFabric fabric;
  GpuHost host;
};

HandJobOptions job_options() {
  HandJobOptions options;
  options.workers = 2;
  options.lanes = 2;
  return options;
}

constexpr Round kRounds = 4;

void expect_the_bits_of_a_host_server(Net& net, ComputeDevice& gpu) {
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
  Net net(cuda);
  expect_the_bits_of_a_host_server(net, gpu);
  EXPECT_GT(cuda.flushes(), 2 * static_cast<int>(kRounds));
}

TEST(GpuServerOverVerbs, AGpuThatOrdersArrivalsIsNotFlushed) {
  FakeCuda cuda(std::vector<FakeGpu>{{.ordering = 100}});
  HostGpu gpu(cuda);
  Net net(cuda);
  expect_the_bits_of_a_host_server(net, gpu);
  EXPECT_EQ(cuda.flushes(), 0);
}

TEST(GpuServerOverVerbs, AGpuTheCardDoesNotReachIsStaged) {
  FakeCuda cuda;
  HostGpu gpu(cuda);
  Net net(cuda, PciDistance::kMachine);
  expect_the_bits_of_a_host_server(net, gpu);
  EXPECT_EQ(cuda.flushes(), 0);
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// libpenstock_cuda.so as it was built: it loads where there is no driver and says so; on a machine
// with a GPU, servers there give the bits of servers with host memory.

#include <gtest/gtest.h>

#include "engine/gpu/cuda_device.h"
#include "tests/engine/training.h"

namespace penstock::test {
namespace {

TEST(CudaPlugin, LoadsAndOpensAGpuOrSaysThatThereIsNone) {
  const auto plugin = load_cuda_plugin(PENSTOCK_CUDA_LIBRARY);
  ASSERT_TRUE(plugin.ok()) << plugin.status().to_string();
  const auto gpu = open_cuda_device(**plugin, 0);
  if (gpu.ok()) return;
  EXPECT_EQ(gpu.status().code(), Code::kUnsupported) << gpu.status().to_string();
  EXPECT_NE(gpu.status().to_string().find("no GPU"), std::string::npos) << gpu.status().to_string();
}

TEST(CudaServer, GivesTheBitsOfAHostServer) {
  const auto plugin = load_cuda_plugin(PENSTOCK_CUDA_LIBRARY);
  ASSERT_TRUE(plugin.ok()) << plugin.status().to_string();
  const auto gpu = open_cuda_device(**plugin, 0);
  if (!gpu.ok()) GTEST_SKIP() << gpu.status().to_string();
  HandJobOptions options;
  options.transport = "tcp";
  options.workers = 2;
  options.lanes = 2;
  const Trained expected = train(options, 6);
  options.compute = gpu->get();
  const Trained trained = train(options, 6);
  ASSERT_TRUE(trained.status.ok()) << trained.status.to_string();
  EXPECT_TRUE(trained.rounds == expected.rounds);
}

}  // namespace
}  // namespace penstock::test

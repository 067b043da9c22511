// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Workers that lend buffers in the memory of a (fake) GPU.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/engine/gpu_net.h"
#include "tests/engine/hand_job.h"
#include "transport/hardware/cuda_buffer.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kElements = 20'000;

HandJobOptions options_for(FakeCuda& cuda) {
  HandJobOptions options;
  options.workers = 2;
  options.servers = 2;
  options.kind_of = [&cuda](const void* address) {
    return is_gpu_memory(cuda.driver(), address) ? MemoryKind::kCuda : MemoryKind::kHost;
  };
  return options;
}

// One worker's tensor, all of it on the GPU.
struct OnGpu {
  explicit OnGpu(FakeCuda& fake)
      : cuda(fake),
        gradients(fake.allocate(kElements * sizeof(float)).first(kElements * sizeof(float))),
        parameters(fake.allocate(kElements * sizeof(float)).first(kElements * sizeof(float))) {}

  Tensor tensor() const {
    Tensor tensor;
    tensor.key = 3;
    tensor.spec.shape = {kElements};
    tensor.spec.optimizer.learning_rate = 1;
    tensor.spec.reduce = Reduce::kSum;
    tensor.gradients = gradients;
    tensor.parameters = parameters;
    return tensor;
  }
  void set(std::span<std::byte> buffer, float value) {
    const std::vector<float> values(kElements, value);
    std::memcpy(cuda.contents(buffer).data(), values.data(), buffer.size());
  }
  // What a kernel reads of the parameters.
  std::vector<float> read() {
    const std::vector<std::byte> bytes = cuda.kernel_reads(parameters);
    std::vector<float> values(kElements);
    std::memcpy(values.data(), bytes.data(), kElements * sizeof(float));
    return values;
  }

  FakeCuda& cuda;
  std::span<std::byte> gradients, parameters;
};

TEST(GpuWorker, GradientsLeaveAndParametersComeBackByTheCardAlone) {
  FakeCuda cuda;  // kernels see what cards wrote after a flush only
  GpuNet net(cuda);
  HandJobOptions options = options_for(cuda);
  options.open = [&net](Incarnation incarnation) { return net.open(incarnation); };
  HandJob job(options);
  std::vector<OnGpu> tensors;
  for (Rank rank = 0; rank < 2; ++rank) tensors.emplace_back(cuda);
  tensors[0].set(tensors[0].parameters, 100);
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < 2; ++rank)
    tickets.push_back(job.worker(rank).begin_declare({tensors[rank].tensor()}));
  for (Rank rank = 0; rank < 2; ++rank) {
    const Status declared = job.finish(rank, tickets[rank]);
    ASSERT_TRUE(declared.ok()) << declared.to_string();
    EXPECT_EQ(tensors[rank].read(), std::vector<float>(kElements, 100));
  }
  for (Round round = 1; round <= 3; ++round) {
    for (Rank rank = 0; rank < 2; ++rank) {
      tensors[rank].set(tensors[rank].gradients, static_cast<float>(rank + round));
      ASSERT_TRUE(job.worker(rank).push_pull(3, round).ok());
    }
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(3, round); }));
    const float expected = 100 - static_cast<float>(round * round + 2 * round);
    for (Rank rank = 0; rank < 2; ++rank) {
      ASSERT_TRUE(job.worker(rank).wait(3, round, 0).ok());
      EXPECT_EQ(tensors[rank].read(), std::vector<float>(kElements, expected)) << "round " << round;
    }
  }
}

Status declared_over_loopback(FakeCuda& cuda, const Tensor& tensor) {
  HandJobOptions options = options_for(cuda);
  options.workers = options.servers = 1;
  HandJob job(options);
  return job.finish(0, job.worker(0).begin_declare({tensor}));
}

TEST(GpuWorker, WhatTheHostWouldHaveToTouchIsRefusedInWords) {
  FakeCuda cuda;
  const Tensor tensor = OnGpu(cuda).tensor();
  const Status other = declared_over_loopback(cuda, tensor);
  EXPECT_EQ(other.code(), Code::kUnsupported);
  EXPECT_NE(other.what().find("key 3: gradients in GPU memory cannot go by loopback"),
            std::string::npos)
      << other.to_string();

  GpuNet net(cuda);
  HandJobOptions options = options_for(cuda);
  options.workers = options.servers = 1;
  options.open = [&net](Incarnation incarnation) { return net.open(incarnation); };
  HandJob job(options);
  Tensor encoded = tensor;
  encoded.spec.codec.kind = CodecKind::kInt8;
  EXPECT_EQ(job.finish(0, job.worker(0).begin_declare({encoded})).code(), Code::kUnsupported);
  Tensor searched = tensor;
  searched.spec.not_finite = NotFinite::kSkip;
  EXPECT_EQ(job.finish(0, job.worker(0).begin_declare({searched})).code(), Code::kUnsupported);
}

}  // namespace
}  // namespace penstock::test

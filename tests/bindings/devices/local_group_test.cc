// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Workers with several local devices, whole jobs in this process.

#include "bindings/devices/local_group.h"

#include <cmath>

#include "bindings/devices/host_group.h"
#include "bindings/devices/nccl_group.h"
#include "kernels/table.h"
#include "tests/bindings/devices/device_buffers.h"
#include "tests/bindings/job.h"
#include "tests/support/fake_nccl/fake_nccl.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kElements = 30'011;
constexpr Round kRounds = 6;
constexpr Key kKeys = 3;

TensorSpec spec_of(DType dtype, Reduce reduce) {
  TensorSpec spec;
  spec.name = "weights";
  spec.shape = {kElements};
  spec.gradient_dtype = spec.parameter_dtype = dtype;
  spec.reduce = reduce;
  spec.optimizer.kind = OptimizerKind::kAdamW;
  spec.optimizer.learning_rate = 0.01;
  return spec;
}

// What device `device` of all computes in a round: depends on nothing else.
void fill(Bytes& gradients, DType dtype, Key key, Round round, std::uint32_t device) {
  for (std::uint64_t i = 0; i < kElements; ++i)
    store(gradients.data() + i * dtype_bytes(dtype), dtype,
          std::sin(static_cast<float>(i * 7 + key * 13 + round * 31 + device * 101)));
}

void first_values(Bytes& parameters, DType dtype) {
  for (std::uint64_t i = 0; i < kElements; ++i)
    store(parameters.data() + i * dtype_bytes(dtype), dtype, static_cast<float>(i % 17) / 8 - 1);
}

// A key on one worker: its devices' buffers.
struct Replica {
  Replica(Key id, std::uint32_t devices, DType what)
      : key(id),
        dtype(what),
        gradients(devices, Bytes(kElements * dtype_bytes(what))),
        parameters(gradients) {}
  LocalTensor tensor(Reduce reduce) {
    LocalTensor made;
    made.tensor = {key, spec_of(dtype, reduce), gradients[0], parameters[0]};
    made.gradients = pointers(gradients);
    made.parameters = pointers(parameters);
    return made;
  }
  Key key;
  DType dtype;
  std::vector<Bytes> gradients, parameters;  // [device]
};

// Trains and returns what every device of every worker ends with, which must be the same.
Bytes train(std::uint32_t workers, std::uint32_t devices, DType dtype, Reduce reduce,
            const char* transport) {
  JobOptions options;
  options.transport = transport;
  options.workers = workers;
  options.servers = 2;
  options.lanes = 2;
  Job job(options);
  std::vector<Bytes> ends(workers);
  SystemClock clock;
  job.each_worker([&](Rank rank) {
    auto devices_of = std::move(HostGroup::create(devices)).value();
    LocalGroup group(job.workers[rank]->worker(), *devices_of, clock);
    std::vector<Replica> replicas;
    for (Key key = 0; key < kKeys; ++key) {
      replicas.emplace_back(key, devices, dtype);
      if (rank == 0) first_values(replicas.back().parameters[0], dtype);
    }
    std::vector<LocalTensor> tensors;
    for (Replica& each : replicas) tensors.push_back(each.tensor(reduce));
    const Status declared = group.declare(std::move(tensors));
    ASSERT_TRUE(declared.ok()) << declared.to_string();
    for (Round round = 1; round <= kRounds; ++round) {
      for (Replica& each : replicas) {
        for (std::uint32_t d = 0; d < devices; ++d)
          fill(each.gradients[d], dtype, each.key, round, rank * devices + d);
        ASSERT_TRUE(group.push_pull(each.key, round).ok());
      }
      for (Replica& each : replicas) {
        const Status waited = group.wait(each.key, round);
        ASSERT_TRUE(waited.ok()) << waited.to_string();
        for (const Bytes& parameters : each.parameters) ASSERT_EQ(parameters, each.parameters[0]);
      }
    }
    for (const Replica& each : replicas)
      ends[rank].insert(ends[rank].end(), each.parameters[0].begin(), each.parameters[0].end());
    EXPECT_TRUE(job.workers[rank]->worker().leave().ok());
  });
  for (const Bytes& each : ends) EXPECT_EQ(each, ends[0]);
  return ends[0];
}

// The same by the plain reference: each worker's devices summed in their order and rounded to the
// wire's dtype, then the workers' in theirs.
Bytes expected(std::uint32_t workers, std::uint32_t devices, DType dtype, Reduce reduce) {
  const KernelTable& kernels = *find_kernels("scalar");
  Bytes ends;
  for (Key key = 0; key < kKeys; ++key) {
    Bytes wire(kElements * dtype_bytes(dtype));
    first_values(wire, dtype);
    std::vector<float> parameters(kElements), first(kElements), second(kElements);
    kernels.decode(wire.data(), dtype, parameters.data(), kElements);
    for (Round round = 1; round <= kRounds; ++round) {
      std::vector<Bytes> sums;
      for (std::uint32_t w = 0; w < workers; ++w) {
        std::vector<Bytes> gradients(devices, wire);
        for (std::uint32_t d = 0; d < devices; ++d)
          fill(gradients[d], dtype, key, round, w * devices + d);
        sums.push_back(sum_of(gradients, dtype));
      }
      std::vector<const void*> contributions;
      for (const Bytes& each : sums) contributions.push_back(each.data());
      UpdateArgs args;
      args.gradients = contributions.data();
      args.workers = workers;
      args.gradient_dtype = args.wire_dtype = dtype;
      args.parameters = parameters.data();
      args.state[0] = first.data();
      args.state[1] = second.data();
      args.wire = wire.data();
      args.count = kElements;
      args.scale = reduce == Reduce::kMean ? 1.0F / static_cast<float>(workers) : 1.0F;
      kernels.update(fold(spec_of(dtype, reduce).optimizer, round), args);
    }
    ends.insert(ends.end(), wire.begin(), wire.end());
  }
  return ends;
}

class LocalGroupTest : public ::testing::TestWithParam<DType> {};

TEST_P(LocalGroupTest, TrainsBitForBitLikeTheReference) {
  const DType dtype = GetParam();
  for (const std::uint32_t devices : {1U, 2U, 4U})
    EXPECT_EQ(train(1, devices, dtype, Reduce::kSum, "tcp"),
              expected(1, devices, dtype, Reduce::kSum))
        << devices << " devices";
  EXPECT_EQ(train(2, 3, dtype, Reduce::kMean, "loopback"), expected(2, 3, dtype, Reduce::kMean));
}

INSTANTIATE_TEST_SUITE_P(DTypes, LocalGroupTest,
                         ::testing::Values(DType::kFloat32, DType::kFloat16, DType::kBfloat16),
                         [](const auto& suite) { return std::string(dtype_name(suite.param)); });

// With fp32 on the wire nothing is rounded between the two sums.
TEST(LocalGroup, OneWorkerOfFourDevicesEqualsFourWorkers) {
  EXPECT_EQ(train(1, 4, DType::kFloat32, Reduce::kSum, "loopback"),
            train(4, 1, DType::kFloat32, Reduce::kSum, "loopback"));
}

TEST(LocalGroup, RefusesWhatCannotBeInWords) {
  Job job({});
  Worker& worker = job.workers[0]->worker();
  SystemClock clock;
  auto devices = std::move(HostGroup::create(2)).value();
  LocalGroup group(worker, *devices, clock);
  Replica replica(5, 2, DType::kFloat32);

  LocalTensor one = replica.tensor(Reduce::kSum);
  one.gradients.pop_back();
  const Status missing = group.declare({one});
  EXPECT_EQ(missing.code(), Code::kInvalidArgument);
  EXPECT_NE(missing.what().find("key 5 'weights': reduce of 30011 fp32 over 1 devices: the group "
                                "has 2"),
            std::string::npos)
      << missing.to_string();
  LocalTensor view = replica.tensor(Reduce::kSum);
  view.tensor.view = true;
  EXPECT_EQ(group.declare({view}).code(), Code::kUnsupported);
  LocalTensor none = replica.tensor(Reduce::kSum);
  none.tensor.spec.shape = {0};
  EXPECT_EQ(group.declare({none}).code(), Code::kInvalidArgument);

  ASSERT_TRUE(group.declare({replica.tensor(Reduce::kSum)}).ok());
  EXPECT_EQ(group.push_pull(6, 1).code(), Code::kNotFound);
  EXPECT_EQ(group.push_pull(5, 2).code(), Code::kInvalidArgument);
  EXPECT_EQ(group.wait(5, 1).code(), Code::kInvalidArgument);
  ASSERT_TRUE(group.push_pull(5, 1).ok());
  EXPECT_EQ(group.push_pull(5, 2).code(), Code::kInvalidArgument);
  EXPECT_EQ(group.remove({5}).code(), Code::kInvalidArgument);
  const Status early = group.wait(5, 1, clock.now_ns() - 1);
  ASSERT_TRUE(early.ok() || early.code() == Code::kTimeout) << early.to_string();
  EXPECT_TRUE(group.wait(5, 1).ok());
  EXPECT_TRUE(group.remove({5}).ok());
  EXPECT_EQ(group.push_pull(5, 2).code(), Code::kNotFound);
  EXPECT_TRUE(worker.leave().ok());
}

TEST(LocalGroup, ALostWorkerEndsTheRoundWithItsName) {
  JobOptions options;
  options.workers = 2;
  Job job(options);
  SystemClock clock;
  job.each_worker([&](Rank rank) {
    auto devices = std::move(HostGroup::create(2)).value();
    LocalGroup group(job.workers[rank]->worker(), *devices, clock);
    Replica replica(0, 2, DType::kFloat32);
    ASSERT_TRUE(group.declare({replica.tensor(Reduce::kSum)}).ok());
    ASSERT_TRUE(job.workers[rank]->worker().barrier().ok());
    if (rank == 1) return job.workers[1].reset();
    ASSERT_TRUE(group.push_pull(0, 1).ok());
    const Status lost = group.wait(0, 1);
    EXPECT_EQ(lost.code(), Code::kPeerLost);
    EXPECT_NE(lost.what().find("key 0 'weights': round 1, "), std::string::npos);
    EXPECT_NE(lost.what().find("worker 1"), std::string::npos) << lost.to_string();
    job.workers[0].reset();  // before the buffers that it lent
  });
}

// Gradients and parameters in GPU memory, what goes on the wire in memory of the host.
TEST(LocalGroup, TrainsOverNcclWithBuffersOnTheWireInHostMemory) {
  FakeCuda cuda({{}, {.pci = "0000:18:00.0"}});
  FakeNccl nccl(cuda);
  Job job({});
  Worker& worker = job.workers[0]->worker();
  SystemClock clock;
  const std::vector<NcclDevice> gpus{{.ordinal = 0}, {.ordinal = 1}};
  auto devices = std::move(NcclGroup::create(nccl.host(), gpus)).value();
  LocalGroup group(worker, *devices, clock);
  std::vector<float> sum(64), result(64, 1);
  LocalTensor tensor;
  tensor.tensor.key = 1;
  tensor.tensor.spec.shape = {64};
  tensor.tensor.spec.optimizer.learning_rate = 1;
  tensor.tensor.gradients = std::as_writable_bytes(std::span(sum));
  tensor.tensor.parameters = std::as_writable_bytes(std::span(result));
  std::vector<std::span<std::byte>> memory;
  for (int gpu = 0; gpu < 2; ++gpu) {
    memory.push_back(cuda.allocate(256, gpu));
    tensor.gradients.push_back(memory.back().data());
    memory.push_back(cuda.allocate(256, gpu));
    tensor.parameters.push_back(memory.back().data());
  }
  const auto floats = [&](std::size_t i) {
    return reinterpret_cast<float*>(cuda.contents(memory[i]).data());
  };
  ASSERT_TRUE(group.declare({tensor}).ok());
  EXPECT_EQ(floats(1)[63], 1);
  EXPECT_EQ(floats(3)[63], 1);
  for (Round round = 1; round <= 3; ++round) {
    std::fill_n(floats(0), 64, 2.0F);
    std::fill_n(floats(2), 64, 3.0F);
    ASSERT_TRUE(group.push_pull(1, round).ok());
    const Status waited = group.wait(1, round);
    ASSERT_TRUE(waited.ok()) << waited.to_string();
    for (const std::size_t each : {1U, 3U})
      for (std::size_t i = 0; i < 64; ++i)
        ASSERT_EQ(floats(each)[i], 1 - 5 * static_cast<float>(round));
  }
  // A GPU that fails ends the round in words, and every one after it.
  nccl.break_ranks(2);
  ASSERT_TRUE(group.push_pull(1, 4).ok());
  const Status broken = group.wait(1, 4);
  EXPECT_EQ(broken.code(), Code::kSystem);
  EXPECT_NE(broken.what().find("key 1: round 4, the sum over the devices: nccl"), std::string::npos)
      << broken.to_string();
  EXPECT_EQ(group.push_pull(1, 5).code(), Code::kSystem);
  devices.reset();
  EXPECT_EQ(nccl.faults(), FakeNccl::kNone);
  EXPECT_TRUE(worker.leave().ok());
}

}  // namespace
}  // namespace penstock::test

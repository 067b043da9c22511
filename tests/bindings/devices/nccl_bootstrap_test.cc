// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Jobs without servers, whose workers connect their GPUs.

#include "bindings/devices/nccl_bootstrap.h"

#include <gmock/gmock.h>

#include "tests/bindings/job.h"
#include "tests/support/fake_nccl/fake_nccl.h"

namespace penstock::test {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kWorkers = 4;
constexpr int kGpus = 2;  // of each worker

class BootstrapTest : public testing::Test {
 protected:
  static JobOptions options() {
    JobOptions options;
    options.workers = kWorkers;
    options.servers = 0;
    options.call_timeout_ns = 10 * kSecond;
    return options;
  }
  static std::vector<FakeGpu> gpus() {
    std::vector<FakeGpu> all(kWorkers * kGpus);
    for (std::size_t i = 0; i < all.size(); ++i) all[i].pci = "0000:1" + std::to_string(i);
    return all;
  }
  Result<std::unique_ptr<NcclCommunicator>> connect(Rank rank, int count = kGpus) {
    std::vector<NcclDevice> devices;
    for (int i = 0; i < count; ++i)
      devices.push_back({.ordinal = static_cast<int>(rank) * kGpus + i});
    return connect_workers(job_.workers[rank]->worker(), clock_, nccl_.host(), devices);
  }

  SystemClock clock_;
  FakeCuda cuda_{gpus()};
  FakeNccl nccl_{cuda_};
  Job job_{options()};
};

TEST_F(BootstrapTest, EveryWorkerConnectsAndTheProgramsOwnCollectivesRun) {
  job_.each_worker([&](Rank rank) {
    auto all = connect(rank);
    ASSERT_TRUE(all.ok()) << all.status().to_string();
    NcclCommunicator& communicator = **all;
    EXPECT_EQ(communicator.ranks(), kWorkers * kGpus);
    // The program's own: 1 + 2 + … + 8 at rank 5.
    std::vector<std::span<std::byte>> buffers;
    for (int i = 0; i < kGpus; ++i) {
      const int number = static_cast<int>(rank) * kGpus + i;
      buffers.push_back(cuda_.allocate(4, number));
      *reinterpret_cast<float*>(cuda_.contents(buffers.back()).data()) =
          static_cast<float>(number + 1);
    }
    const NcclLibrary& library = communicator.nccl();
    ASSERT_TRUE(communicator
                    .start("ncclReduce",
                           [&](std::size_t i, const auto& local) {
                             return library.ncclReduce(buffers[i].data(), buffers[i].data(), 1,
                                                       kNcclFloat32, kNcclSum, 5,
                                                       communicator.handle(i), local.stream);
                           })
                    .ok());
    while (!communicator.poll()) continue;
    void* event = nullptr;
    const auto& local = communicator.locals()[1];
    const CudaDriver& driver = *nccl_.host().cuda;
    ASSERT_EQ(local.context.with([&] { return driver.cuEventCreate(&event, 2); }), 0);
    ASSERT_EQ(local.context.with([&] { return driver.cuEventRecord(event, local.stream); }), 0);
    while (driver.cuEventQuery(event) == 600) std::this_thread::yield();
    EXPECT_EQ(driver.cuEventDestroy_v2(event), 0);
    if (rank == 2) {
      EXPECT_EQ(*reinterpret_cast<float*>(cuda_.contents(buffers[1]).data()), 36);
    }
    EXPECT_TRUE(job_.workers[rank]->worker().barrier().ok());
    ASSERT_TRUE(communicator.begin_close().ok());
    std::optional<Status> closed;
    while (!(closed = communicator.poll())) continue;
    EXPECT_TRUE(closed->ok()) << closed->to_string();
    EXPECT_TRUE(job_.workers[rank]->worker().leave().ok());
  });
  EXPECT_EQ(nccl_.faults(), FakeNccl::kNone);
  EXPECT_EQ(nccl_.communicators(), 0);
}

TEST_F(BootstrapTest, WorkersWithOtherCountsOfGpusAreToldWho) {
  job_.each_worker([&](Rank rank) {
    const Status refused = connect(rank, rank == 1 ? 1 : kGpus).status();
    EXPECT_EQ(refused.code(), Code::kMismatch);
    EXPECT_THAT(refused.what(), HasSubstr("worker 0"));
    EXPECT_THAT(refused.what(), HasSubstr("worker 1"));
    EXPECT_THAT(refused.what(), HasSubstr("for 2 GPUs of each worker' against"));
    EXPECT_TRUE(job_.workers[rank]->worker().leave().ok());
  });
  EXPECT_EQ(nccl_.communicators(), 0);
}

TEST_F(BootstrapTest, EverybodyIsToldWhyThereIsNoId) {
  nccl_.fail("ncclGetUniqueId", 2);
  job_.each_worker([&](Rank rank) {
    const Status refused = connect(rank).status();
    EXPECT_EQ(refused.code(), Code::kSystem);
    EXPECT_THAT(refused.what(),
                HasSubstr("worker 0 has no unique id for NCCL: ncclGetUniqueId answers 2"));
    EXPECT_TRUE(job_.workers[rank]->worker().leave().ok());
  });
}

TEST_F(BootstrapTest, AWorkerThatDiesWhileTheyConnectEndsItWithItsName) {
  job_.each_worker([&](Rank rank) {
    if (rank == 3) {  // takes the id, and is never a rank
      std::vector<std::byte> id(512);
      EXPECT_TRUE(
          job_.workers[3]->worker().share("NCCL's unique id for 2 GPUs of each worker", id).ok());
      return job_.workers[3].reset();
    }
    const Status lost = connect(rank).status();
    EXPECT_EQ(lost.code(), Code::kPeerLost) << lost.to_string();
    EXPECT_THAT(lost.what(), HasSubstr("worker 3"));
  });
  EXPECT_EQ(nccl_.communicators(), 0);
}

TEST_F(BootstrapTest, NoGpuIsAnErrorAtOnce) {
  EXPECT_EQ(connect(0, 0).status().code(), Code::kInvalidArgument);
  job_.each_worker([&](Rank rank) { EXPECT_TRUE(job_.workers[rank]->worker().leave().ok()); });
}

}  // namespace
}  // namespace penstock::test

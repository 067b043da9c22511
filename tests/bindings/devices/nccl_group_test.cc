// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/nccl_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/bindings/devices/device_buffers.h"
#include "tests/support/fake_nccl/fake_nccl.h"

namespace penstock::test {
namespace {

using testing::HasSubstr;

std::vector<FakeGpu> gpus(int count) {
  std::vector<FakeGpu> all(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i)
    all[static_cast<std::size_t>(i)].pci = "0000:1" + std::to_string(i);
  return all;
}

class NcclGroupTest : public testing::Test {
 protected:
  ~NcclGroupTest() override {
    group_.reset();
    EXPECT_EQ(nccl_.faults(), FakeNccl::kNone);
    EXPECT_EQ(nccl_.communicators(), 0);
    EXPECT_EQ(cuda_.retained(), 0);
  }

  Status create(int count) {
    std::vector<NcclDevice> devices;
    for (int i = 0; i < count; ++i)
      devices.push_back({.ordinal = i, .stream = reinterpret_cast<void*>(16UL + i)});
    auto made = NcclGroup::create(nccl_.host(), devices);
    if (made.ok()) group_ = std::move(*made);
    return made.status();
  }

  // On GPU `gpu`: element i is gpu + i.
  std::byte* buffer(int gpu, std::uint64_t count = kCount) {
    const std::span<std::byte> made = cuda_.allocate(count * sizeof(float), gpu);
    for (std::uint64_t i = 0; i < count; ++i)
      at(made.data(), i) = static_cast<float>(gpu) + static_cast<float>(i);
    return made.data();
  }
  float& at(std::byte* device, std::uint64_t i) {
    return *reinterpret_cast<float*>(
        cuda_.contents({device + i * sizeof(float), sizeof(float)}).data());
  }

  static constexpr std::uint64_t kCount = 1000;
  FakeCuda cuda_{gpus(4)};
  FakeNccl nccl_{cuda_};
  std::unique_ptr<NcclGroup> group_;
};

TEST_F(NcclGroupTest, SumsIntoTheRootAndSuppliesEveryDevice) {
  for (int devices = 1; devices <= 4; ++devices)
    for (int root = 0; root < devices; ++root) {
      ASSERT_TRUE(create(devices).ok());
      std::vector<std::byte*> lent;
      for (int gpu = 0; gpu < devices; ++gpu) lent.push_back(buffer(gpu));
      std::byte* const leader = buffer(root);
      GroupCall call{.buffers = lent,
                     .leader = leader,
                     .count = kCount,
                     .root = static_cast<std::uint32_t>(root)};
      const Status reduced = run(*group_, call);
      ASSERT_TRUE(reduced.ok()) << reduced.to_string();
      const float sum_of_ranks = static_cast<float>(devices * (devices - 1) / 2);
      for (std::uint64_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(at(leader, i),
                  sum_of_ranks + static_cast<float>(devices) * static_cast<float>(i));
        ASSERT_EQ(at(lent[0], i), static_cast<float>(i));
      }
      call.kind = GroupCallKind::kBroadcast;
      ASSERT_TRUE(run(*group_, call).ok());
      for (std::byte* const each : lent)
        for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_EQ(at(each, i), at(leader, i));
      EXPECT_EQ(nccl_.communicators(), devices);
      group_.reset();
      EXPECT_EQ(nccl_.communicators(), 0);
    }
}

TEST_F(NcclGroupTest, CallsBeginBeforeItIsConnectedAndEndInTheirOrder) {
  nccl_.set_polls(7);
  ASSERT_TRUE(create(2).ok());
  const std::vector<std::byte*> lent{buffer(0), buffer(1)};
  GroupCall reduce{.buffers = lent, .leader = lent[0], .count = kCount};
  GroupCall broadcast = reduce;
  broadcast.kind = GroupCallKind::kBroadcast;
  std::vector<GroupTicket> tickets;
  for (int i = 0; i < 4; ++i) {
    tickets.push_back(group_->begin(reduce).value());
    tickets.push_back(group_->begin(broadcast).value());
  }
  for (const GroupTicket ticket : tickets) ASSERT_TRUE(finish(*group_, ticket).ok());
  // (0 + i) + (1 + i), then doubled three times.
  for (std::uint64_t i = 0; i < kCount; ++i)
    ASSERT_EQ(at(lent[1], i), 8 * (1 + 2 * static_cast<float>(i)));
  EXPECT_EQ(nccl_.operations(), 16);
}

TEST_F(NcclGroupTest, ACallIsNotDoneBeforeItsKernels) {
  ASSERT_TRUE(create(2).ok());
  const std::vector<std::byte*> lent{buffer(0), buffer(1)};
  nccl_.hold(true);
  const GroupTicket ticket =
      group_->begin({.buffers = lent, .leader = lent[0], .count = kCount}).value();
  for (int i = 0; i < 1000; ++i) group_->progress();
  EXPECT_FALSE(group_->poll(ticket).has_value());
  nccl_.hold(false);
  EXPECT_TRUE(finish(*group_, ticket).ok());
}

TEST_F(NcclGroupTest, TheLeadersBufferMayBePinnedHostMemory) {
  ASSERT_TRUE(create(2).ok());
  const std::vector<std::byte*> lent{buffer(0), buffer(1)};
  std::vector<float> sum(kCount);
  const Status done =
      run(*group_,
          {.buffers = lent, .leader = reinterpret_cast<std::byte*>(sum.data()), .count = kCount});
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(sum[7], 15);
}

TEST_F(NcclGroupTest, WithOneDeviceNcclHasNothingToDo) {
  ASSERT_TRUE(create(1).ok());
  const std::vector<std::byte*> lent{buffer(0)};
  EXPECT_TRUE(run(*group_, {.buffers = lent, .leader = lent[0], .count = kCount}).ok());
  for (int i = 0; i < 10; ++i) group_->progress();
  EXPECT_EQ(nccl_.operations(), 0);
}

TEST_F(NcclGroupTest, AnErrorOnTheNetworkEndsEveryCallAndTheGroup) {
  ASSERT_TRUE(create(3).ok());
  const std::vector<std::byte*> lent{buffer(0), buffer(1), buffer(2)};
  const GroupCall call{.buffers = lent, .leader = lent[0], .count = kCount};
  ASSERT_TRUE(run(*group_, call).ok());
  nccl_.hold(true);
  const GroupTicket first = group_->begin(call).value(), second = group_->begin(call).value();
  for (int i = 0; i < 20; ++i) group_->progress();
  nccl_.break_ranks(kNcclRemoteError);
  for (const GroupTicket ticket : {first, second}) {
    const Status broken = finish(*group_, ticket);
    EXPECT_EQ(broken.code(), Code::kPeerLost);
    EXPECT_THAT(broken.what(), HasSubstr("ncclReduce answers 6"));
    EXPECT_THAT(broken.what(), HasSubstr("so says the fake"));
    EXPECT_THAT(broken.hint(), HasSubstr("NCCL_DEBUG"));
  }
  EXPECT_EQ(group_->begin(call).status().code(), Code::kPeerLost);
  EXPECT_EQ(nccl_.communicators(), 0);  // aborted, all of them
}

TEST_F(NcclGroupTest, AnErrorWhileItConnectsEndsTheCallsThatWait) {
  ASSERT_TRUE(create(2).ok());
  const std::vector<std::byte*> lent{buffer(0), buffer(1)};
  const GroupTicket ticket =
      group_->begin({.buffers = lent, .leader = lent[0], .count = kCount}).value();
  nccl_.break_ranks(2);
  const Status broken = finish(*group_, ticket);
  EXPECT_EQ(broken.code(), Code::kSystem);
  EXPECT_THAT(broken.what(), HasSubstr("ncclCommInitRankConfig answers 2: unhandled system error"));
}

TEST_F(NcclGroupTest, ACallThatIsRefusedLeavesTheThreadOutsideOfGroups) {
  ASSERT_TRUE(create(2).ok());
  const std::vector<std::byte*> lent{buffer(0), buffer(1)};
  const GroupCall call{.buffers = lent, .leader = lent[0], .count = kCount};
  nccl_.fail("ncclReduce", kNcclInvalidArgument);
  const Status refused = run(*group_, call);
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.what(), HasSubstr("ncclReduce answers 4"));
  nccl_.fail("ncclReduce", 0);
  ASSERT_TRUE(create(2).ok());  // another group on this thread
  EXPECT_TRUE(run(*group_, call).ok());
}

TEST_F(NcclGroupTest, ADriverThatFailsEndsTheCalls) {
  ASSERT_TRUE(create(2).ok());
  const std::vector<std::byte*> lent{buffer(0), buffer(1)};
  nccl_.fail("cuEventQuery", 700);  // CUDA_ERROR_ILLEGAL_ADDRESS
  const Status broken = run(*group_, {.buffers = lent, .leader = lent[0], .count = kCount});
  EXPECT_EQ(broken.code(), Code::kSystem);
  EXPECT_THAT(broken.what(), HasSubstr("cuEventQuery answers 700"));
  EXPECT_EQ(nccl_.communicators(), 0);
}

TEST_F(NcclGroupTest, RefusesWhatCannotBeInWords) {
  EXPECT_EQ(create(0).code(), Code::kInvalidArgument);
  const Status missing = create(5);
  EXPECT_EQ(missing.code(), Code::kSystem);
  EXPECT_THAT(missing.what(), HasSubstr("cuDeviceGet of GPU 4 answers 101"));
  const std::vector<NcclDevice> twice{{.ordinal = 1}, {.ordinal = 1}};
  EXPECT_THAT(NcclGroup::create(nccl_.host(), twice).status().what(), HasSubstr("GPU 1 twice"));
  nccl_.set_version(21304);
  const Status old = create(2);
  EXPECT_EQ(old.code(), Code::kUnsupported);
  EXPECT_THAT(old.what(), HasSubstr("libnccl.so.2 is NCCL 2.13.4, older than 2.14.0"));
  EXPECT_THAT(old.hint(), HasSubstr("libnccl2"));
  nccl_.set_version(2708);
  EXPECT_THAT(create(2).what(), HasSubstr("NCCL 2.7.8"));
  nccl_.set_version(22809);
  nccl_.fail("ncclGetUniqueId", 2);
  EXPECT_THAT(create(2).what(), HasSubstr("ncclGetUniqueId answers 2"));
}

// The fake itself: what a test above must not do is seen.
TEST(FakeNccl, SeesWhatCallersDoWrong) {
  FakeCuda cuda(gpus(2));
  FakeNccl nccl(cuda);
  nccl.set_polls(1);
  const auto id = new_nccl_id(*nccl.host().nccl);
  const std::vector<NcclDevice> devices{{.ordinal = 0}, {.ordinal = 1}};
  auto both = std::move(NcclCommunicator::begin(nccl.host(), *id, 2, 0, devices)).value();
  const NcclLibrary& library = *nccl.host().nccl;
  float value = 0;
  const auto reduce = [&](std::size_t rank, std::size_t count) {
    return library.ncclReduce(&value, &value, count, kNcclFloat32, kNcclSum, 0, both->handle(rank),
                              nullptr);
  };
  EXPECT_EQ(reduce(0, 1), kNcclInvalidUsage);
  EXPECT_THAT(nccl.faults().back(), HasSubstr("not ready"));
  while (!both->poll()) continue;
  reduce(0, 1);
  EXPECT_THAT(nccl.faults().back(), HasSubstr("without the rank on GPU 1"));
  EXPECT_EQ(library.ncclCommDestroy(both->handle(1)), 0);
  EXPECT_THAT(nccl.faults().back(), HasSubstr("before ncclCommFinalize"));
}

TEST(NcclCommunicator, ClosesCleanlyOnceAllHaveFinished) {
  FakeCuda cuda(gpus(2));
  FakeNccl nccl(cuda);
  const auto id = new_nccl_id(*nccl.host().nccl);
  const std::vector<NcclDevice> devices{{.ordinal = 0}, {.ordinal = 1}};
  auto both = std::move(NcclCommunicator::begin(nccl.host(), *id, 2, 0, devices)).value();
  while (!both->poll()) continue;
  ASSERT_TRUE(both->begin_close().ok());
  EXPECT_FALSE(both->poll().has_value());
  std::optional<Status> closed;
  while (!(closed = both->poll())) continue;
  EXPECT_TRUE(closed->ok()) << closed->to_string();
  EXPECT_EQ(nccl.communicators(), 0);
  EXPECT_EQ(both->poll()->code(), Code::kCancelled);
  both.reset();
  EXPECT_EQ(nccl.faults(), FakeNccl::kNone);
}

}  // namespace
}  // namespace penstock::test

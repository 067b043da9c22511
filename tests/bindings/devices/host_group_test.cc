// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/host_group.h"

#include <gtest/gtest.h>

#include "tests/bindings/devices/device_buffers.h"
#include "tests/support/allocation_counter.h"

namespace penstock::test {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};
constexpr std::uint64_t kCounts[] = {1, 3, 2047, 2048, 65'537, 150'001};

std::unique_ptr<HostGroup> group_of(std::uint32_t devices) {
  return std::move(HostGroup::create(devices)).value();
}

TEST(HostGroup, SumsInTheDevicesOrderWithTheSameBitsOnEveryTarget) {
  for (const KernelTable* kernels : available_kernels())
    for (const DType dtype : kDTypes)
      for (std::uint32_t devices = 1; devices <= 5; ++devices)
        for (const std::uint64_t count : kCounts) {
          auto group = std::move(HostGroup::create(devices, *kernels)).value();
          std::vector<Bytes> buffers = random_buffers(devices, count, dtype, devices);
          const Bytes wanted = devices == 1 ? buffers[0] : sum_of(buffers, dtype);
          const auto before = buffers;
          Bytes sum(wanted.size());
          const auto lent = pointers(buffers);
          const Status done = run(*group, {.buffers = lent,
                                           .leader = sum.data(),
                                           .count = count,
                                           .dtype = dtype,
                                           .root = devices - 1});
          ASSERT_TRUE(done.ok()) << done.to_string();
          ASSERT_EQ(sum, wanted) << kernels->target << " " << dtype_name(dtype) << " " << count;
          ASSERT_EQ(buffers, before);
        }
}

TEST(HostGroup, TheLeaderMayBeOneOfTheBuffers) {
  for (const std::uint32_t root : {0U, 2U}) {
    auto group = group_of(3);
    std::vector<Bytes> buffers = random_buffers(3, 70'000, DType::kBfloat16, 9);
    const Bytes wanted = sum_of(buffers, DType::kBfloat16);
    const auto lent = pointers(buffers);
    GroupCall call{.buffers = lent,
                   .leader = lent[root],
                   .count = 70'000,
                   .dtype = DType::kBfloat16,
                   .root = root};
    ASSERT_TRUE(run(*group, call).ok());
    EXPECT_EQ(buffers[root], wanted);
    call.kind = GroupCallKind::kBroadcast;
    ASSERT_TRUE(run(*group, call).ok());
    EXPECT_EQ(buffers, std::vector<Bytes>(3, wanted));
  }
}

TEST(HostGroup, DoesNothingUntilItIsMovedOnAndKeepsTheOrder) {
  auto group = group_of(2);
  std::vector<float> a{1, 2}, b{10, 20}, sum(2);
  std::vector<std::byte*> lent{reinterpret_cast<std::byte*>(a.data()),
                               reinterpret_cast<std::byte*>(b.data())};
  GroupCall call{.buffers = lent, .leader = reinterpret_cast<std::byte*>(sum.data()), .count = 2};
  const GroupTicket reduce = group->begin(call).value();
  call.kind = GroupCallKind::kBroadcast;
  const GroupTicket broadcast = group->begin(call).value();
  lent.clear();  // the list was the caller's, only the buffers are lent
  EXPECT_FALSE(group->poll(reduce).has_value());
  EXPECT_EQ(sum, std::vector<float>(2));
  EXPECT_EQ(group->progress(), 1U);
  EXPECT_TRUE(group->poll(reduce)->ok());
  EXPECT_EQ(group->poll(reduce)->code(), Code::kNotFound);
  EXPECT_FALSE(group->poll(broadcast).has_value());
  EXPECT_TRUE(finish(*group, broadcast).ok());
  EXPECT_EQ(a, (std::vector<float>{11, 22}));
  EXPECT_EQ(b, a);
  EXPECT_EQ(group->progress(), 0U);
}

TEST(HostGroup, WithOneDeviceThereIsNothingToDo) {
  auto group = group_of(1);
  std::vector<Bytes> buffers = random_buffers(1, 4096, DType::kFloat32, 4);
  const auto before = buffers;
  const auto lent = pointers(buffers);
  for (int turn = 0; turn < 1000; ++turn) {  // more than there are places for calls
    const auto ticket = group->begin({.buffers = lent, .leader = lent[0], .count = 4096});
    ASSERT_TRUE(ticket.ok());
    ASSERT_TRUE(group->poll(*ticket)->ok());
  }
  EXPECT_EQ(group->progress(), 0U);
  EXPECT_EQ(buffers, before);
}

TEST(HostGroup, TooManyCallsAreRefusedUntilSomeArePolled) {
  auto group = group_of(2);
  std::vector<Bytes> buffers = random_buffers(2, 8, DType::kFloat32, 4);
  const auto lent = pointers(buffers);
  const GroupCall call{.buffers = lent, .leader = lent[0], .count = 8};
  for (std::size_t i = 0; i < kMaxGroupCalls; ++i) ASSERT_TRUE(group->begin(call).ok());
  EXPECT_EQ(group->begin(call).status().code(), Code::kExhausted);
  EXPECT_TRUE(finish(*group, 0).ok());
  EXPECT_TRUE(group->begin(call).ok());
}

TEST(HostGroup, AllocatesNothingOnceItIsMade) {
  auto group = group_of(4);
  std::vector<Bytes> buffers = random_buffers(4, 100'000, DType::kFloat16, 4);
  const auto lent = pointers(buffers);
  const GroupCall call{
      .buffers = lent, .leader = lent[0], .count = 100'000, .dtype = DType::kFloat16};
  const std::uint64_t before = heap_allocations();
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(run(*group, call).ok());
  EXPECT_EQ(heap_allocations() - before, 0U);
}

TEST(HostGroup, RefusesWhatCannotBeInWords) {
  auto group = group_of(2);
  std::vector<Bytes> memory(3, Bytes(256));
  const auto at = [&](std::size_t i, std::size_t offset = 0) { return memory[i].data() + offset; };
  struct Case {
    std::vector<std::byte*> buffers;
    std::byte* leader;
    std::uint64_t count;
    std::uint32_t root;
    const char* words;
  };
  for (const Case& each : std::initializer_list<Case>{
           {{at(0)}, at(2), 8, 0, "reduce of 8 fp32 over 1 devices: the group has 2"},
           {{at(0), at(1)}, at(2), 0, 0, "1 to"},
           {{at(0), at(1)}, at(2), 8, 2, "root 2"},
           {{at(0), nullptr}, at(2), 8, 0, "the buffer of device 1 is null"},
           {{at(0), at(1, 2)}, at(2), 8, 0, "the buffer of device 1 is null or not aligned"},
           {{at(0), at(1)}, nullptr, 8, 0, "the leader's buffer is null"},
           {{at(0), at(1)}, at(1), 8, 0, "the buffer of device 1 overlaps the leader's"},
           {{at(0), at(1)}, at(0, 4), 8, 0, "the buffer of device 0 overlaps the leader's"},
           {{at(0), at(0, 28)}, at(2), 8, 0, "the buffers of devices 0 and 1 overlap"}}) {
    const auto refused = group->begin(
        {.buffers = each.buffers, .leader = each.leader, .count = each.count, .root = each.root});
    ASSERT_FALSE(refused.ok()) << each.words;
    EXPECT_EQ(refused.status().code(), Code::kInvalidArgument);
    EXPECT_NE(refused.status().what().find(each.words), std::string::npos)
        << refused.status().to_string();
  }
  EXPECT_EQ(HostGroup::create(0).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(HostGroup::create(65).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace penstock::test

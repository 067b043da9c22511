// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What travels over one connection.

#include <algorithm>
#include <numeric>

#include "tests/bindings/nccl/driver.h"
#include "transport/base/random.h"

namespace penstock::test {
namespace {

constexpr NcclResult kOk = NcclResult::kSuccess;
constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST_P(NcclNet, SaysWhatItsDevicesAre) {
  EXPECT_STREQ(net_->name(), "Penstock");
  int count = 0;
  ASSERT_EQ(net_->devices(&count), kOk);
  ASSERT_GE(count, 1);
  for (int device = 0; device < count; ++device) {
    nccl::PropertiesV12 p;
    ASSERT_EQ(net_->properties(device, &p), kOk);
    EXPECT_STRNE(p.name, "");
    EXPECT_NE(p.guid, 0U);
    EXPECT_EQ(p.pointers & nccl::kPointerHost, nccl::kPointerHost);
    EXPECT_EQ(p.registers_globally, 0);
    EXPECT_EQ(p.force_flush, 0);
    EXPECT_GT(p.speed_mbps, 0);
    EXPECT_GT(p.max_comms, 1000);
    EXPECT_EQ(p.max_receives, 8);
    EXPECT_EQ(p.device_type, 0);
    EXPECT_EQ(p.parts.count, 1);
    EXPECT_EQ(p.parts.devices[0], GetParam() > 8 ? device : 0);
    EXPECT_GT(p.max_p2p_bytes, 0U);
    EXPECT_LE(p.max_p2p_bytes, std::size_t{1} << 40);
    EXPECT_GT(p.max_collective_bytes, 0U);
    EXPECT_EQ(p.max_multi_request, 1);
    EXPECT_EQ(p.rail, -1);
    EXPECT_EQ(p.plane, -1);
  }
  nccl::PropertiesV12 none;
  EXPECT_NE(net_->properties(count, &none), kOk);
}

TEST_P(NcclNet, CarriesEverySize) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  unsigned seed = 1;
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{4096}, kMiB - 1, kMiB, kMiB + 1, 9 * kMiB + 5})
    expect_transfer(pair, bytes, seed++);
}

TEST_P(NcclNet, KeepsThirtyTwoReceivesInFlight) {
  constexpr std::size_t kDeep = nccl::kMaxRequests, kEach = 3000;
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, kDeep * kEach), into(*net_, pair.receiver, kDeep * kEach);
  SeededRandom random(GetParam());
  for (unsigned round = 1; round <= 5; ++round) {
    from.fill(round);
    std::vector<void*> receives, sends;
    std::vector<int> sizes;
    for (std::size_t i = 0; i < kDeep; ++i)
      receives.push_back(receive(pair, into, kEach, 0, i * kEach));
    // One more is not taken, and nothing comes of it.
    void* more = nullptr;
    EXPECT_EQ(try_receive(pair, into, kEach, 0, &more), kOk);
    EXPECT_EQ(more, nullptr);
    for (std::size_t i = 0; i < kDeep; ++i) {
      sizes.push_back(static_cast<int>(random.below(kEach + 1)));
      sends.push_back(send(pair, from, static_cast<std::size_t>(sizes.back()), 0, i * kEach));
    }
    ASSERT_FALSE(HasFailure());
    std::vector<void*> all = sends;
    all.insert(all.end(), receives.begin(), receives.end());
    const std::vector<int> told = finish_all(all);
    EXPECT_TRUE(std::equal(sizes.begin(), sizes.end(), told.begin()));
    EXPECT_TRUE(std::equal(sizes.begin(), sizes.end(), told.begin() + kDeep));
    for (std::size_t i = 0; i < kDeep; ++i)
      EXPECT_TRUE(into.holds(round, static_cast<std::size_t>(sizes[i]), i * kEach)) << i;
  }
}

// The receives of one group: buffers one behind the other, tag 100 for the first, and so on.
struct Group {
  static constexpr std::size_t kBuffers = 8, kEach = 2000;
  static constexpr int kTag = 100;
  void* request = nullptr;

  NcclResult receive(Plugin& net, Pair& pair, Buffer& into, std::size_t base) {
    std::array<void*, kBuffers> data{}, handles{};
    std::array<std::size_t, kBuffers> sizes{};
    std::array<int, kBuffers> tags{};
    for (std::size_t i = 0; i < kBuffers; ++i) {
      data[i] = into.at(base + i * kEach);
      handles[i] = into.handle();
      sizes[i] = kEach;
      tags[i] = kTag + static_cast<int>(i);
    }
    return net.receive(pair.receiver, kBuffers, data.data(), sizes.data(), tags.data(),
                       handles.data(), &request);
  }
};

TEST_P(NcclNet, PicksByTagWithinTheFirstGroupOnly) {
  constexpr std::size_t kGroup = Group::kBuffers * Group::kEach;
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, 2 * kGroup), into(*net_, pair.receiver, 2 * kGroup);
  from.fill(3);
  Group first, second;
  ASSERT_EQ(first.receive(*net_, pair, into, 0), kOk);
  ASSERT_NE(first.request, nullptr);
  ASSERT_EQ(second.receive(*net_, pair, into, kGroup), kOk);
  ASSERT_NE(second.request, nullptr);
  std::vector<std::size_t> order(Group::kBuffers);
  std::iota(order.begin(), order.end(), 0);
  std::vector<void*> sends;
  SeededRandom random(GetParam());
  for (std::size_t base : {std::size_t{0}, kGroup}) {
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    for (std::size_t n = 0; n < order.size(); ++n) {
      const std::size_t i = order[n];
      const int tag = Group::kTag + static_cast<int>(i);
      void* sent = send(pair, from, Group::kEach - i, tag, base + i * Group::kEach);
      ASSERT_NE(sent, nullptr);
      if (base == 0 && n + 1 < order.size()) {
        // The same tag is in the second group, whose turn has not come.
        void* early = nullptr;
        for (int turn = 0; turn < 50 && early == nullptr; ++turn)
          ASSERT_EQ(try_send(pair, from, 1, tag, &early), kOk);
        EXPECT_EQ(early, nullptr);
      }
      sends.push_back(sent);
    }
  }
  for (Group* group : {&first, &second}) {
    std::array<int, Group::kBuffers> sizes{};
    int done = 0;
    ASSERT_TRUE(until([&] {
      int sent = 0;
      if (!sends.empty() && net_->test(sends.back(), &sent, nullptr) != kOk) ADD_FAILURE();
      if (sent != 0) sends.pop_back();
      if (net_->test(group->request, &done, sizes.data()) != kOk) ADD_FAILURE();
      return HasFailure() || done != 0;
    }));
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(sizes[i], static_cast<int>(Group::kEach - i));
      EXPECT_TRUE(
          into.holds(3, Group::kEach - i, (group == &second ? kGroup : 0) + i * Group::kEach));
    }
  }
}

TEST_P(NcclNet, KeepsThirtyTwoGroupsInFlight) {
  constexpr std::size_t kGroup = Group::kBuffers * Group::kEach, kDeep = nccl::kMaxRequests;
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, kDeep * kGroup), into(*net_, pair.receiver, kDeep * kGroup);
  from.fill(4);
  std::array<Group, kDeep> groups;
  std::vector<void*> sends;
  std::size_t posted = 0;
  ASSERT_TRUE(until([&] {  // both ends take turns, as announcements need them
    if (posted < kDeep) {
      EXPECT_EQ(groups[posted].receive(*net_, pair, into, posted * kGroup), kOk);
      posted += groups[posted].request != nullptr ? 1 : 0;
    }
    const std::size_t at = sends.size();
    void* request = nullptr;
    EXPECT_EQ(
        net_->send(pair.sender, from.at(at * Group::kEach), Group::kEach,
                   Group::kTag + static_cast<int>(at % Group::kBuffers), from.handle(), &request),
        kOk);
    if (request != nullptr) sends.push_back(request);
    return HasFailure() || sends.size() == kDeep * Group::kBuffers;
  }));
  ASSERT_FALSE(HasFailure());
  std::array<int, Group::kBuffers> sizes{};
  for (Group& group : groups) {
    int done = 0;
    ASSERT_TRUE(until([&] {
      int any = 0;
      EXPECT_EQ(net_->test(group.request, &done, sizes.data()), kOk);
      if (!sends.empty() && net_->test(sends.back(), &any, nullptr) != kOk) ADD_FAILURE();
      if (any != 0) sends.pop_back();
      return HasFailure() || done != 0;
    }));
  }
  finish_all(sends);
  EXPECT_TRUE(into.holds(4, into.size()));
}

TEST_P(NcclNet, RefusesASendLongerThanItsReceiveNamingBoth) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, 1000), into(*net_, pair.receiver, 1000);
  from.fill(5);
  void* receiving = receive(pair, into, 800, 1);
  ASSERT_NE(receiving, nullptr);
  void* sending = nullptr;
  NcclResult result = kOk;
  ASSERT_TRUE(until([&] { return (result = try_send(pair, from, 801, 1, &sending)) != kOk; }));
  EXPECT_EQ(result, NcclResult::kInvalidUsage);
  EXPECT_EQ(sending, nullptr);
  const std::string log = take_log();
  EXPECT_NE(log.find("801"), std::string::npos) << log;
  EXPECT_NE(log.find("of 800"), std::string::npos) << log;
  // Nothing was sent; what fits still goes.
  sending = send(pair, from, 799, 1);
  ASSERT_NE(sending, nullptr);
  EXPECT_EQ(finish_all({sending, receiving}), (std::vector<int>{799, 799}));
  EXPECT_TRUE(into.holds(5, 799));
}

TEST_P(NcclNet, AnswersNullUntilThereIsAReceiveAndForgetsIt) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, 64), into(*net_, pair.receiver, 64);
  from.fill(6);
  void* sending = nullptr;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(try_send(pair, from, 64, 2, &sending), kOk);
    ASSERT_EQ(sending, nullptr);
  }
  void* receiving = receive(pair, into, 64, 2);
  for (int i = 0; i < 1000; ++i) {  // another tag
    ASSERT_EQ(try_send(pair, from, 64, 3, &sending), kOk);
    ASSERT_EQ(sending, nullptr);
  }
  sending = send(pair, from, 32, 2);
  EXPECT_EQ(finish_all({sending, receiving}), (std::vector<int>{32, 32}));
  EXPECT_TRUE(into.holds(6, 32));
}

TEST_P(NcclNet, GivesARealRequestWhereCompletionIsOptional) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, 64), into(*net_, pair.receiver, 64);
  from.fill(7);
  void* const optional = reinterpret_cast<void*>(nccl::kOptionalReceive);
  void* receiving = optional;
  ASSERT_EQ(try_receive(pair, into, 64, 0, &receiving), kOk);
  ASSERT_NE(receiving, nullptr);
  ASSERT_NE(receiving, optional);
  void* sending = send(pair, from, 64, 0);
  EXPECT_EQ(finish_all({sending, receiving}), (std::vector<int>{64, 64}));
  EXPECT_TRUE(into.holds(7, 64));
}

TEST_P(NcclNet, FlushesHostMemoryWithoutARequest) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer into(*net_, pair.receiver, 64);
  void *data = into.at(), *handle = into.handle(), *request = &data;
  int size = 64;
  EXPECT_EQ(net_->flush(pair.receiver, 1, &data, &size, &handle, &request), kOk);
  EXPECT_EQ(request, nullptr);
}

TEST_P(NcclNet, RefusesMemoryThatIsNotRegisteredForIt) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  Buffer from(*net_, pair.sender, 100), into(*net_, pair.receiver, 100);
  void* request = nullptr;
  // Sending's may not be written to, and what is beyond the end is nobody's.
  EXPECT_EQ(try_receive(pair, from, 100, 0, &request), NcclResult::kInvalidUsage);
  EXPECT_EQ(try_receive(pair, into, 101, 0, &request), NcclResult::kInvalidUsage);
  EXPECT_EQ(request, nullptr);
  void* handle = nullptr;
  EXPECT_EQ(net_->register_memory(pair.receiver, into.at(), 0, nccl::kPointerHost, &handle),
            NcclResult::kInvalidUsage);
  take_log();
  expect_transfer(pair, 100);
}

TEST_P(NcclNet, RegistersAndForgetsInAnyOrder) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  std::vector<std::byte> memory(kMiB);
  std::vector<void*> handles;
  SeededRandom random(GetParam());
  for (int turn = 0; turn < 2000; ++turn) {
    if (handles.size() > 20 || (!handles.empty() && random.chance(400'000))) {
      const std::size_t which = random.below(handles.size());
      ASSERT_EQ(net_->deregister(pair.receiver, handles[which]), kOk);
      handles.erase(handles.begin() + static_cast<std::ptrdiff_t>(which));
      continue;
    }
    const std::size_t from = random.below(memory.size());
    void* handle = nullptr;
    ASSERT_EQ(
        net_->register_memory(pair.receiver, memory.data() + from,
                              1 + random.below(memory.size() - from), nccl::kPointerHost, &handle),
        kOk);
    handles.push_back(handle);
  }
  for (void* handle : handles) EXPECT_EQ(net_->deregister(pair.receiver, handle), kOk);
  expect_transfer(pair, 5000);
}

INSTANTIATE_TEST_SUITE_P(V, NcclNet, ::testing::Range(8, 13), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace penstock::test

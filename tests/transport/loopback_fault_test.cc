// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What a fault plan does to data connections.
#include <fmt/format.h>

#include <algorithm>

#include "tests/support/pattern.h"
#include "tests/transport/conformance.h"
#include "transport/loopback/fabric.h"

namespace penstock::test {
namespace {

constexpr std::uint32_t kAlways = 1'000'000;

FaultPlan plan_with(std::uint64_t seed) {
  FaultPlan plan;
  plan.seed = seed;
  plan.data = {kMicrosecond, 100 * kMicrosecond};
  plan.control = {kMicrosecond, 100 * kMicrosecond};
  return plan;
}

struct Side {
  Side(LoopbackFabric& fabric, Incarnation incarnation)
      : device(fabric.create_device(incarnation)),
        queue(device->create_completion_queue(64).value()) {}
  std::unique_ptr<Device> device;
  std::unique_ptr<CompletionQueue> queue;
  std::vector<std::unique_ptr<Endpoint>> ends;
  std::vector<Completion> seen;

  std::size_t count(Event event, Code code) const {
    return static_cast<std::size_t>(std::count_if(
        seen.begin(), seen.end(),
        [&](const Completion& each) { return each.event == event && each.code == code; }));
  }
};

// Two devices on a virtual clock, `links` connections between them.
class World {
 public:
  World(const FaultPlan& plan, std::size_t links) : fabric(clock, plan) {
    for (std::uint32_t i = 0; i < links; ++i) connect(i);
    run(100 * kMillisecond);
  }
  void connect(std::uint32_t id, TimeNs deadline_ns = kNever) {
    EndpointOptions options;
    options.id = id;
    options.token[0] = static_cast<std::uint8_t>(id + 1);
    options.deadline_ns = deadline_ns;
    b.ends.push_back(b.device->accept(*b.queue, options).value());
    a.ends.push_back(a.device->connect(*a.queue, b.device->address(), options).value());
  }
  // Runs the events of the next `span_ns` and notes what came out, with its time.
  void run(TimeNs span_ns) {
    const TimeNs end_ns = clock.now_ns() + span_ns;
    while (clock.now_ns() < end_ns) {
      const TimeNs next_ns = std::min(fabric.next_event_ns(), end_ns);
      clock.advance(std::max<TimeNs>(next_ns - clock.now_ns(), 0));
      fabric.step();
      drain(a, 'a');
      drain(b, 'b');
    }
  }
  Memory register_memory(Side& side, std::size_t bytes, Access access) {
    Memory memory;
    memory.heap.resize(bytes);
    memory.bytes = memory.heap;
    memory.region = side.device->register_memory(memory.bytes, MemoryKind::kHost, access).value();
    memory.remote = memory.region->describe();
    return memory;
  }
  void destroy(Side& side) {
    side.ends.clear();
    side.queue.reset();
    side.device.reset();
  }

  ManualClock clock;
  LoopbackFabric fabric;
  Side a{fabric, 1};
  Side b{fabric, 2};
  std::string trace;

 private:
  void drain(Side& side, char name) {
    std::array<Completion, 8> taken;
    while (side.queue) {
      const std::size_t count = side.queue->poll(taken);
      if (count == 0) return;
      for (const Completion& event : std::span(taken.data(), count)) {
        side.seen.push_back(event);
        trace += fmt::format("{} {} {} {} {} {} {}\n", clock.now_ns(), name, event.endpoint,
                             static_cast<int>(event.event), static_cast<int>(event.code), event.tag,
                             event.immediate);
      }
    }
  }
};

// Posts on three connections while they break and mend; returns all that was seen.
std::string story(std::uint64_t seed) {
  FaultPlan plan = plan_with(seed);
  plan.cut_per_million = 20'000;
  plan.reorder_per_million = kAlways / 2;
  plan.applied_at_cut_per_million = kAlways / 2;
  plan.torn_at_cut_per_million = kAlways / 2;
  plan.spike_per_million = 10'000;
  plan.spike_ns = kMillisecond;
  World world(plan, 3);
  Memory from = world.register_memory(world.a, 512, Access::kLocal);
  Memory to = world.register_memory(world.b, 512, Access::kRemoteWrite);
  fill_pattern(from.bytes, seed);
  for (std::uint32_t i = 0; i < 200; ++i) {
    WorkRequest request = write_request(from, to, i);
    request.has_immediate = true;
    request.immediate = i;
    request.unordered = i % 3 == 0;
    const std::size_t which = i % world.a.ends.size();
    if (!world.a.ends[which]->post(request).ok() && world.a.ends.size() < 50)
      world.connect(static_cast<std::uint32_t>(world.a.ends.size()));
    world.run(20 * kMicrosecond);
  }
  world.run(kSecond);
  return world.trace + std::to_string(has_pattern(to.bytes, seed));
}

TEST(LoopbackFaults, EqualSeedsGiveEqualEvents) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) EXPECT_EQ(story(seed), story(seed)) << seed;
  EXPECT_NE(story(1), story(2));
}

TEST(LoopbackFaults, DelaysReorderBetweenEndpointsAndNeverWithinOne) {
  World world(plan_with(3), 8);
  std::vector<std::uint32_t> sent;
  for (std::uint32_t i = 0; i < 160; ++i) {
    ASSERT_TRUE(world.a.ends[i % 8]->post(immediate_request(i, i)).ok());
    sent.push_back(i);
  }
  world.run(kSecond);
  std::vector<std::uint32_t> arrived;
  std::map<std::uint32_t, std::vector<std::uint32_t>> by_end;
  for (const Completion& event : world.b.seen) {
    if (event.event != Event::kImmediate) continue;
    arrived.push_back(event.immediate);
    by_end[event.endpoint].push_back(event.immediate);
  }
  EXPECT_EQ(arrived.size(), sent.size());
  EXPECT_NE(arrived, sent);
  for (const auto& [id, order] : by_end) EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(LoopbackFaults, UnorderedWritesOvertakeWithinAnEndpointAndCompleteInOrder) {
  FaultPlan plan = plan_with(3);
  plan.reorder_per_million = kAlways / 2;
  World world(plan, 1);
  for (std::uint32_t i = 0; i < 60; ++i) {
    WorkRequest request = immediate_request(i, i);
    request.unordered = i % 2 != 0;
    ASSERT_TRUE(world.a.ends[0]->post(request).ok());
  }
  world.run(kSecond);
  std::vector<std::uint32_t> ordered, unordered, done;
  for (const Completion& event : world.b.seen)
    if (event.event == Event::kImmediate)
      (event.immediate % 2 != 0 ? unordered : ordered).push_back(event.immediate);
  for (const Completion& event : world.a.seen)
    if (event.event == Event::kWriteDone) done.push_back(static_cast<std::uint32_t>(event.tag));
  EXPECT_EQ(ordered.size(), 30U);
  EXPECT_TRUE(std::is_sorted(ordered.begin(), ordered.end()));
  EXPECT_EQ(unordered.size(), 30U);
  EXPECT_FALSE(std::is_sorted(unordered.begin(), unordered.end()));
  EXPECT_EQ(done.size(), 60U);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
}

TEST(LoopbackFaults, NothingHappensBeforeItsTime) {
  FaultPlan plan = plan_with(4);
  plan.data = {kMillisecond, 2 * kMillisecond};
  World world(plan, 1);
  Memory from = world.register_memory(world.a, 64, Access::kLocal);
  Memory to = world.register_memory(world.b, 64, Access::kRemoteWrite);
  fill_pattern(from.bytes, 1);
  ASSERT_TRUE(world.a.ends[0]->post(write_request(from, to, 1)).ok());
  EXPECT_GE(world.fabric.next_event_ns(), world.clock.now_ns() + kMillisecond);
  world.run(kMillisecond - 1);
  EXPECT_TRUE(all_zero(to.bytes));
  world.run(kMillisecond + 1);
  EXPECT_TRUE(has_pattern(to.bytes, 1)) << "bytes are copied at their delivery";
  EXPECT_EQ(world.fabric.pending_ops(), 1U);
  world.run(2 * kMillisecond);
  EXPECT_EQ(world.fabric.pending_ops(), 0U);
  EXPECT_EQ(world.fabric.next_event_ns(), kNever);
}

TEST(LoopbackFaults, ACutEndsBothSides) {
  FaultPlan plan = plan_with(5);
  plan.cut_per_million = kAlways;
  World world(plan, 2);
  ASSERT_TRUE(world.a.ends[0]->post(immediate_request(1, 1)).ok());
  world.run(kSecond);
  EXPECT_EQ(world.a.count(Event::kWriteDone, Code::kConnectionLost), 1U);
  EXPECT_EQ(world.a.count(Event::kDisconnected, Code::kConnectionLost), 1U);
  EXPECT_EQ(world.b.count(Event::kDisconnected, Code::kConnectionLost), 1U);
  EXPECT_EQ(world.b.count(Event::kImmediate, Code::kOk), 0U);
  EXPECT_TRUE(world.a.ends[1]->connected());
}

TEST(LoopbackFaults, ATornWriteIsAPrefixWithoutItsImmediate) {
  std::size_t partial = 0;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    FaultPlan plan = plan_with(seed);
    plan.cut_per_million = kAlways;
    plan.torn_at_cut_per_million = kAlways;
    World world(plan, 1);
    Memory from = world.register_memory(world.a, 1'000, Access::kLocal);
    Memory to = world.register_memory(world.b, 1'000, Access::kRemoteWrite);
    std::fill(from.bytes.begin(), from.bytes.end(), std::byte{1});
    WorkRequest request = write_request(from, to, 1);
    request.has_immediate = true;
    ASSERT_TRUE(world.a.ends[0]->post(request).ok());
    world.run(kSecond);
    EXPECT_EQ(world.b.count(Event::kImmediate, Code::kOk), 0U);
    EXPECT_EQ(world.a.count(Event::kWriteDone, Code::kConnectionLost), 1U);
    const auto end = std::find(to.bytes.begin(), to.bytes.end(), std::byte{0});
    EXPECT_TRUE(all_zero({end, to.bytes.end()})) << "not a prefix, seed " << seed;
    EXPECT_NE(end, to.bytes.end());
    partial += end != to.bytes.begin() ? 1 : 0;
  }
  EXPECT_GT(partial, 30U);
}

TEST(LoopbackFaults, APostMayBeAppliedAlthoughItsCompletionSaysLost) {
  FaultPlan plan = plan_with(6);
  plan.cut_per_million = kAlways;
  plan.applied_at_cut_per_million = kAlways;
  World world(plan, 1);
  Memory from = world.register_memory(world.a, 100, Access::kLocal);
  Memory to = world.register_memory(world.b, 100, Access::kRemoteWrite);
  fill_pattern(from.bytes, 1);
  WorkRequest request = write_request(from, to, 1);
  request.has_immediate = true;
  ASSERT_TRUE(world.a.ends[0]->post(request).ok());
  world.run(kSecond);
  EXPECT_EQ(world.a.count(Event::kWriteDone, Code::kConnectionLost), 1U);
  EXPECT_TRUE(has_pattern(to.bytes, 1));
  ASSERT_EQ(world.b.count(Event::kImmediate, Code::kOk), 1U);
  EXPECT_EQ(world.b.seen.back().event, Event::kDisconnected);
}

TEST(LoopbackFaults, ALoudDeathIsHeardByAllPeers) {
  World world(plan_with(7), 3);
  world.fabric.kill(*world.b.device, LoopbackFabric::Death::kLoud);
  world.destroy(world.b);
  world.run(kSecond);
  EXPECT_EQ(world.a.count(Event::kDisconnected, Code::kConnectionLost), 3U);
}

TEST(LoopbackFaults, ASilentDeathIsHeardByWhoPostsAndLate) {
  FaultPlan plan = plan_with(8);
  plan.retry_timeout_ns = kSecond;
  World world(plan, 3);
  ASSERT_TRUE(world.a.ends[0]->post(immediate_request(0, 0)).ok());  // under way at the death
  world.fabric.kill(*world.b.device, LoopbackFabric::Death::kSilent);
  world.destroy(world.b);
  world.run(kMillisecond);
  ASSERT_TRUE(world.a.ends[1]->post(immediate_request(1, 1)).ok());  // posted after it
  world.run(kSecond / 2);
  EXPECT_EQ(world.a.count(Event::kWriteDone, Code::kConnectionLost), 0U);
  world.run(kSecond);
  EXPECT_EQ(world.a.count(Event::kWriteDone, Code::kConnectionLost), 2U);
  EXPECT_EQ(world.a.count(Event::kDisconnected, Code::kConnectionLost), 2U);
  // The idle one never hears; its owner gives it up.
  world.run(3600 * kSecond);
  EXPECT_TRUE(world.a.ends[2]->connected());
  world.a.ends[2]->close();
  world.run(kSecond);
  EXPECT_EQ(world.a.count(Event::kDisconnected, Code::kCancelled), 1U);
}

TEST(LoopbackFaults, ConnectingToTheDeadIsRefusedOrTimesOut) {
  for (const LoopbackFabric::Death death :
       {LoopbackFabric::Death::kLoud, LoopbackFabric::Death::kSilent}) {
    World world(plan_with(9), 0);
    world.fabric.kill(*world.b.device, death);
    world.connect(1, world.clock.now_ns() + kSecond);
    world.run(kSecond - 1);
    const bool loud = death == LoopbackFabric::Death::kLoud;
    EXPECT_EQ(world.a.count(Event::kDisconnected, Code::kConnectionLost), loud ? 1U : 0U);
    EXPECT_LE(world.fabric.next_event_ns(), world.clock.now_ns() + 1) << "deadlines are events";
    world.run(1);
    EXPECT_EQ(world.a.count(Event::kDisconnected, Code::kTimeout), loud ? 0U : 1U);
  }
}

TEST(LoopbackFaults, DeathIsDrawnAsThePlanSays) {
  ManualClock clock;
  FaultPlan plan = plan_with(10);
  plan.silent_death_per_million = kAlways;
  LoopbackFabric silent(clock, plan);
  EXPECT_EQ(silent.draw_death(), LoopbackFabric::Death::kSilent);
  LoopbackFabric loud(clock, plan_with(10));
  EXPECT_EQ(loud.draw_death(), LoopbackFabric::Death::kLoud);
  LoopbackFabric calm(clock);
  EXPECT_EQ(calm.draw_death(), LoopbackFabric::Death::kLoud);
}

TEST(LoopbackFaults, CuttingByHandWorksWithAndWithoutAPlan) {
  for (const std::uint64_t seed : {0U, 11U}) {
    World world(plan_with(seed), 2);
    Side c(world.fabric, 3);
    EndpointOptions options;
    auto there = c.device->accept(*c.queue, options).value();
    auto here = world.a.device->connect(*world.a.queue, c.device->address(), options).value();
    world.fabric.cut_endpoints(world.b.device->address(), world.a.device->address());
    world.run(kSecond);
    EXPECT_EQ(world.a.count(Event::kDisconnected, Code::kConnectionLost), 2U);
    EXPECT_EQ(world.b.count(Event::kDisconnected, Code::kConnectionLost), 2U);
    EXPECT_TRUE(here->connected());
  }
}

}  // namespace
}  // namespace penstock::test

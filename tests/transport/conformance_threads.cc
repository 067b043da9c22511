// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Owner threads at work at the same time, sleeping on descriptors, and what the hot path may not
// do.
#include <poll.h>

#include <atomic>
#include <thread>

#include "tests/support/allocation_counter.h"
#include "tests/transport/conformance.h"

namespace penstock::test {
namespace {

constexpr TimeNs kPatienceNs = 60 * kSecond;

// The body of an owner thread: runs until `done` or a generous deadline.
template <class Turn, class Done>
bool drive(Turn turn, Done done) {
  const SystemClock wall;
  const TimeNs deadline_ns = wall.now_ns() + kPatienceNs;
  while (!done()) {
    if (wall.now_ns() > deadline_ns) return false;
    turn();
  }
  return true;
}

// Bounces immediates on one endpoint: `first` serves, and each arrival is answered until `goal`
// arrivals were seen and every post has completed.
class Bouncer {
 public:
  Bouncer(Lane& lane, Endpoint& endpoint, const Memory& from, const RemoteRegion& to,
          std::uint32_t goal)
      : lane_(lane), endpoint_(endpoint), from_(from), to_(to), goal_(goal) {}

  void hit() {
    WorkRequest request;
    request.has_immediate = true;
    request.immediate = posted_;
    request.tag = posted_;
    request.local = from_.region.get();
    request.length = from_.bytes.size();
    request.remote = &to_;
    if (endpoint_.post(request).ok()) ++posted_;
  }
  void turn() {
    std::array<Completion, 16> taken;
    const std::size_t count = lane_.queue->poll(taken);
    if (count == 0) std::this_thread::yield();
    for (const Completion& event : std::span(taken.data(), count)) {
      if (event.event == Event::kWriteDone && event.code == Code::kOk) ++completed_;
      if (event.event != Event::kImmediate) continue;
      in_order_ &= event.immediate == arrived_;
      ++arrived_;
      if (posted_ < goal_) hit();
    }
  }
  void rest() { (void)lane_.queue->arm(); }  // what was held back leaves: nobody polls any more
  bool finished() const { return arrived_ == goal_ && completed_ == goal_; }
  bool in_order() const { return in_order_; }

 private:
  Lane& lane_;
  Endpoint& endpoint_;
  const Memory& from_;
  const RemoteRegion to_;
  const std::uint32_t goal_;
  std::uint32_t posted_ = 0;
  std::uint32_t completed_ = 0;
  std::uint32_t arrived_ = 0;
  bool in_order_ = true;
};

TEST_P(DeviceConformance, QueuesOfDifferentThreadsDoNotDisturbOneAnother) {
  if (!harness().threads()) GTEST_SKIP() << "this provider is driven on one thread";
  constexpr std::uint32_t kBounces = 3'000;
  constexpr std::size_t kPairs = 2;
  std::vector<std::unique_ptr<Bouncer>> bouncers;
  for (std::size_t i = 0; i < kPairs; ++i) {
    Lane& here = add_lane(a());
    Lane& there = add_lane(b());
    const Link ends = link(here, there);
    Memory& from_a = memory(a(), 4'096, Access::kLocal);
    Memory& from_b = memory(b(), 4'096, Access::kLocal);
    Memory& to_a = memory(a(), 4'096, Access::kRemoteWrite);
    Memory& to_b = memory(b(), 4'096, Access::kRemoteWrite);
    bouncers.push_back(
        std::make_unique<Bouncer>(here, *ends.a.endpoint, from_a, to_b.remote, kBounces));
    bouncers.push_back(
        std::make_unique<Bouncer>(there, *ends.b.endpoint, from_b, to_a.remote, kBounces));
  }
  for (std::size_t i = 0; i < kPairs; ++i) bouncers[2 * i]->hit();
  std::vector<std::thread> threads;
  std::atomic<int> finished{0};
  for (const std::unique_ptr<Bouncer>& bouncer : bouncers) {
    threads.emplace_back([&] {
      if (drive([&] { bouncer->turn(); }, [&] { return bouncer->finished(); })) ++finished;
      bouncer->rest();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(finished, 4);
  for (const std::unique_ptr<Bouncer>& bouncer : bouncers) EXPECT_TRUE(bouncer->in_order());
}

TEST_P(DeviceConformance, AnArmedQueueWakesItsSleeper) {
  if (!harness().threads()) GTEST_SKIP() << "this provider is driven on one thread";
  constexpr std::uint32_t kNaps = 200;
  const Link ends = link();
  std::atomic<std::uint32_t> asleep{0};
  std::atomic<bool> overslept{false};
  std::thread sleeper([&] {
    std::array<Completion, 4> taken;
    for (std::uint32_t arrived = 0; arrived < kNaps && !overslept;) {
      const std::size_t count = lane_b().queue->poll(taken);
      for (const Completion& event : std::span(taken.data(), count))
        arrived += event.event == Event::kImmediate ? 1 : 0;
      if (count != 0 || !lane_b().queue->arm()) continue;
      asleep.store(arrived + 1);
      pollfd wait{lane_b().queue->fd(), POLLIN, 0};
      overslept = ::poll(&wait, 1, kPatienceNs / kMillisecond) != 1;
    }
    (void)lane_b().queue->arm();  // what was held back leaves: nobody polls any more
  });
  // Post one more each time the sleeper has gone to sleep, so that every one must wake it.
  bool posted_all = true;
  for (std::uint32_t i = 0; i < kNaps && posted_all; ++i) {
    posted_all = drive([&] { lane_a().pump(); }, [&] { return asleep > i || overslept; }) &&
                 post(ends.a, immediate_request(i, i)).ok();
  }
  EXPECT_TRUE(drive([&] { lane_a().pump(); }, [&] { return ends.a.done().size() == kNaps; }));
  sleeper.join();
  EXPECT_TRUE(posted_all);
  EXPECT_FALSE(overslept);
}

TEST_P(DeviceConformance, AnArmedQueueStaysAsleepWhenNothingHappens) {
  if (!harness().threads()) GTEST_SKIP() << "this provider is driven on one thread";
  link();
  ASSERT_TRUE(until([&] { return lane_b().queue->arm(); }));
  pollfd wait{lane_b().queue->fd(), POLLIN, 0};
  // A spurious wake-up is allowed, an endless one is not.
  int woken = 0;
  while (woken < 100 && ::poll(&wait, 1, 0) == 1) {
    ++woken;
    lane_b().pump();
    ASSERT_TRUE(until([&] { return lane_b().queue->arm(); }));
  }
  EXPECT_LT(woken, 100);
}

TEST_P(DeviceConformance, ARegionMayGoWhileThePeerKeepsWriting) {
  if (!harness().threads()) GTEST_SKIP() << "this provider is driven on one thread";
  for (int round = 0; round < 5; ++round) {
    const Link ends = link();
    Memory& from = memory(a(), 100'000, Access::kLocal);
    Memory& to = memory(b(), 100'000, Access::kRemoteWrite);
    fill_pattern(from.bytes, 1);
    std::atomic<int> landed{0};
    std::thread writer([&] {
      std::uint64_t tag = 0;
      drive(
          [&] {
            if (ends.a.endpoint->send_free() > 0)
              (void)post(ends.a, write_request(from, to, tag++));
            lane_a().pump();
            landed = static_cast<int>(ends.a.lane->seen.size());
          },
          [&] { return !ends.a.endpoint->connected(); });
    });
    std::atomic<bool> enough{false};
    std::thread receiver([&] {
      while (!enough) {
        if (lane_b().pump() == 0) std::this_thread::yield();
      }
    });
    const int before = landed;
    EXPECT_TRUE(drive([] { std::this_thread::yield(); }, [&] { return landed > before + 10; }));
    to.region.reset();
    fill_pattern(to.bytes, 2);  // ours again: a byte that lands now is a data race and a failure
    writer.join();
    enough = true;
    receiver.join();
    EXPECT_TRUE(has_pattern(to.bytes, 2));
    ASSERT_TRUE(until_disconnected(ends.a));
    expect_refusal(ends.a.endpoint->status().code(), Code::kStale);
  }
}

TEST_P(DeviceConformance, SteadyStateAllocatesNothing) {
  const Link ends = link();
  int turns = 0;  // what comes up while it is open, further rails say, has come up
  ASSERT_TRUE(until([&] { return ++turns > 500; }));
  Memory& from = memory(a(), 20'000, Access::kLocal);
  Memory& to = memory(b(), 20'000, Access::kRemoteReadWrite);
  WorkRequest write = write_request(from, to, 1);
  write.has_immediate = true;
  const std::array work{write, read_request(from, to, 2), send_request(from, 256, 3)};
  std::array<Completion, 16> taken;
  const auto rounds = [&](int count) {
    std::size_t failures = 0;
    for (int i = 0; i < count; ++i) {
      failures += ends.a.endpoint->post(work).ok() ? 0 : 1;
      std::size_t wanted = 5;  // three completions, an immediate and a message
      for (int turn = 0; wanted != 0 && turn < 1'000'000; ++turn) {
        wanted -= lane_a().queue->poll(taken);
        wanted -= lane_b().queue->poll(taken);
        harness().step();
      }
      failures += wanted;
    }
    return failures;
  };
  ASSERT_GT(heap_allocations(), 0U) << "operator new is not counted";
  ASSERT_EQ(rounds(300), 0U);  // warm-up: buffers reach their size
  const std::uint64_t before = heap_allocations();
  const std::size_t failures = rounds(1'000);
  EXPECT_EQ(heap_allocations() - before, 0U);
  EXPECT_EQ(failures, 0U);
}

}  // namespace
}  // namespace penstock::test

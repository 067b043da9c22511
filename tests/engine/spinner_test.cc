// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/spinner.h"

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <thread>

#include "engine/runtime/wait_point.h"

namespace penstock::test {
namespace {

// Says what the test put in, then stands still.
class ScriptedClock final : public Clock {
 public:
  void say(std::initializer_list<TimeNs> times_us) {
    for (const TimeNs time_us : times_us) times_.push_back(time_us * kMicrosecond);
  }
  TimeNs now_ns() const override {
    if (times_.size() > 1) times_.pop_front();
    return times_.front();
  }

 private:
  mutable std::deque<TimeNs> times_{0};
};

TEST(Spinner, LooksAgainUntilItsTimeIsOverAndThenFromTheStart) {
  ScriptedClock clock;
  Spinner spinner(50 * kMicrosecond);
  clock.say({100, 101});
  EXPECT_TRUE(spinner.again(clock));
  clock.say({149, 149});
  EXPECT_TRUE(spinner.again(clock));
  clock.say({150});
  EXPECT_FALSE(spinner.again(clock));
  clock.say({400, 401});
  EXPECT_TRUE(spinner.again(clock)) << "after a sleep";
  spinner.found();
  clock.say({449, 449});
  EXPECT_TRUE(spinner.again(clock));
  clock.say({490, 490});
  EXPECT_TRUE(spinner.again(clock)) << "counted since something was found";
  EXPECT_FALSE(Spinner(0).again(clock));
}

TEST(Spinner, SleepsWhereOthersWantTheProcessor) {
  ScriptedClock clock;
  Spinner spinner(50 * kMicrosecond);
  clock.say({100, 3'100});
  EXPECT_TRUE(spinner.again(clock)) << "something may have come meanwhile";
  clock.say({3'101});
  EXPECT_FALSE(spinner.again(clock));
  clock.say({90'000});
  EXPECT_FALSE(spinner.again(clock));
  clock.say({103'101, 103'102});
  EXPECT_TRUE(spinner.again(clock)) << "perhaps they have gone";
}

TEST(WaitPoint, NoNoticeIsMissedBetweenSpinningAndSleep) {
  constexpr std::uint32_t kTurns = 2'000;
  WaitPoint point;
  std::atomic<std::uint32_t> turn{0};
  const auto play = [&](std::uint32_t mine) {
    const WaitPoint::Waiting waiting(point);
    while (true) {
      const std::uint32_t seen = point.sequence();
      const std::uint32_t now = turn.load(std::memory_order_acquire);
      if (now >= kTurns) return true;
      if (now % 2 == mine) {
        if (now % 64 < 2) std::this_thread::sleep_for(std::chrono::microseconds(200));
        turn.store(now + 1, std::memory_order_release);
        point.notify();
        continue;
      }
      const auto before = std::chrono::steady_clock::now();
      point.wait(seen, 20 * kSecond);
      if (std::chrono::steady_clock::now() - before > std::chrono::seconds(19)) return false;
    }
  };
  bool other = false;
  std::thread thread([&] { other = play(1); });
  EXPECT_TRUE(play(0));
  thread.join();
  EXPECT_TRUE(other);
}

}  // namespace
}  // namespace penstock::test

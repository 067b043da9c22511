// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>
#include <numeric>
#include <thread>

#include "bench/psbench/ceiling_memory.h"
#include "bench/psbench/ceiling_tcp.h"
#include "bench/psbench/tcp_streams.h"

namespace penstock::psbench {
namespace {

TimeNs soon() { return SystemClock().now_ns() + 20 * kSecond; }

bool has_children() { return waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

std::vector<std::byte> counted_from(unsigned first, std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((first + i) % 251);
  return bytes;
}

TEST(TcpStreams, MoveBothDirectionsAtOnceWholeAndInOrder) {
  // More than the sockets hold, and not a multiple of anything.
  constexpr std::size_t kBytes = (32 << 20) + 13;
  std::vector<TcpPair> pairs = connect_streams(1).value();
  const std::vector<std::byte> there = counted_from(1, kBytes), back = counted_from(2, kBytes);
  std::vector<std::byte> got_there(kBytes), got_back(kBytes);
  Status far;
  {
    std::jthread other(
        [&] { far = exchange_bytes(pairs[0].second.get(), back, got_there, soon()); });
    const Status near = exchange_bytes(pairs[0].first.get(), there, got_back, soon());
    EXPECT_TRUE(near.ok()) << near.to_string();
  }
  EXPECT_TRUE(far.ok()) << far.to_string();
  EXPECT_TRUE(got_there == there);
  EXPECT_TRUE(got_back == back);
}

TEST(TcpStreams, EndAtTheDeadlineWhenThePeerIsSilent) {
  std::vector<TcpPair> pairs = connect_streams(1).value();
  std::byte in{};
  const Status status =
      exchange_bytes(pairs[0].first.get(), {}, {&in, 1}, SystemClock().now_ns() + kMillisecond);
  EXPECT_EQ(status.code(), Code::kTimeout);
}

TEST(TcpStreams, EndWhenThePeerIsGone) {
  std::vector<TcpPair> pairs = connect_streams(1).value();
  pairs[0].second.reset();
  std::byte in{};
  const Status status = exchange_bytes(pairs[0].first.get(), {}, {&in, 1}, soon());
  EXPECT_EQ(status.code(), Code::kConnectionLost);
}

TEST(TcpCeiling, MeasuresEachWayAndLeavesNoProcess) {
  for (const bool two_way : {false, true}) {
    for (const unsigned streams : {1U, 3U}) {
      TcpCeilingOptions options;
      options.streams = streams;
      options.bytes_per_round = 1 << 20;
      options.rounds = 4;
      options.two_way = two_way;
      Result<TcpCeiling> ceiling = measure_tcp_ceiling(options);
      ASSERT_TRUE(ceiling.ok()) << ceiling.status().to_string();
      EXPECT_EQ(ceiling->round_us.count, 4U);
      EXPECT_GT(ceiling->round_us.min, 0);
      EXPECT_GT(ceiling->GBps, 0);
      EXPECT_GT(ceiling->cpu_s_per_GB, 0);
    }
  }
  EXPECT_FALSE(has_children());
}

TEST(TcpCeiling, EndsAtItsDeadlineAndLeavesNoProcess) {
  TcpCeilingOptions options;
  options.bytes_per_round = 64 << 20;
  options.rounds = kMaxCeilingRounds;
  options.deadline_ns = kMillisecond;
  const Status status = measure_tcp_ceiling(options).status();
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(has_children());
}

TEST(TcpCeiling, RefusesWhatItCannotMeasure) {
  TcpCeilingOptions options;
  options.streams = 0;
  EXPECT_EQ(measure_tcp_ceiling(options).status().code(), Code::kInvalidArgument);
  options.streams = kMaxCeilingStreams + 1;
  EXPECT_EQ(measure_tcp_ceiling(options).status().code(), Code::kInvalidArgument);
  options.streams = 1;
  options.rounds = 0;
  EXPECT_EQ(measure_tcp_ceiling(options).status().code(), Code::kInvalidArgument);
}

TEST(MemoryCeiling, MeasuresOneAndSeveralThreads) {
  for (const unsigned threads : {1U, 3U}) {
    Result<MemoryCeiling> ceiling = measure_memory_ceiling(threads, 8 << 20, 3);
    ASSERT_TRUE(ceiling.ok()) << ceiling.status().to_string();
    EXPECT_GT(ceiling->read_GBps, 0);
    EXPECT_GT(ceiling->copy_GBps, 0);
  }
}

TEST(MemoryCeiling, RefusesWhatItCannotMeasure) {
  EXPECT_EQ(measure_memory_ceiling(0, 1 << 20).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(measure_memory_ceiling(2, 4096).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(measure_memory_ceiling(1, 1 << 20, 0).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace penstock::psbench

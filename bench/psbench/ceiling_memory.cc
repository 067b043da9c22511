// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/ceiling_memory.h"

#include <fmt/format.h>

#include <array>
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/host_memory.h"

namespace penstock::psbench {
namespace {

constexpr unsigned kMaxThreads = 1024;
constexpr std::uint64_t kMinPartBytes = 4096;
constexpr unsigned kMaxPasses = 1000;

// Reads every byte once. Eight sums side by side, so that no addition waits for the one before.
std::uint64_t read_all(std::span<const std::byte> bytes) {
  constexpr std::size_t kSums = 8;
  std::array<std::uint64_t, kSums> sums{};
  const auto* words = reinterpret_cast<const std::uint64_t*>(bytes.data());
  const std::size_t count = bytes.size() / sizeof(std::uint64_t) / kSums * kSums;
  for (std::size_t i = 0; i < count; i += kSums)
    for (std::size_t k = 0; k < kSums; ++k) sums[k] += words[i + k];
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) total += sum;
  return total;
}

void copy_half(std::span<std::byte> bytes) {
  const std::size_t half = bytes.size() / 2;
  std::memcpy(bytes.data() + half, bytes.data(), half);
}

// Tells the compiler that `value` is used.
void keep(std::uint64_t value) { asm volatile("" : : "r"(value) : "memory"); }

// The seconds of each pass, from the moment all threads start it until all have ended it.
template <class Pass>
std::vector<double> time_passes(const std::vector<HostMemory>& parts, unsigned passes, Pass pass) {
  std::vector<double> seconds;
  std::barrier turn(static_cast<std::ptrdiff_t>(parts.size()));
  const auto run = [&](std::size_t thread) {
    std::memset(parts[thread].bytes().data(), 1, parts[thread].bytes().size());  // first touch here
    turn.arrive_and_wait();
    for (unsigned i = 0; i <= passes; ++i) {
      const TimeNs begin = SystemClock().now_ns();
      pass(parts[thread].bytes());
      turn.arrive_and_wait();
      if (thread == 0 && i > 0)  // pass 0 warms up
        seconds.push_back(static_cast<double>(SystemClock().now_ns() - begin) / 1e9);
    }
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < parts.size(); ++i) threads.emplace_back(run, i);
  threads.clear();
  return seconds;
}

}  // namespace

Result<MemoryCeiling> measure_memory_ceiling(unsigned threads, std::uint64_t bytes,
                                             unsigned passes) {
  if (threads < 1 || threads > kMaxThreads || passes < 1 || passes > kMaxPasses ||
      bytes / threads < kMinPartBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("memory bandwidth of {} threads over {} bytes, {} passes", threads,
                              bytes, passes))
        .with_hint(fmt::format("1 to {} threads, {} bytes each, 1 to {} passes", kMaxThreads,
                               kMinPartBytes, kMaxPasses));
  std::vector<HostMemory> parts;
  for (unsigned i = 0; i < threads; ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(HostMemory part, HostMemory::allocate(bytes / threads));
    parts.push_back(std::move(part));
  }
  const auto read = [](std::span<std::byte> part) { keep(read_all(part)); };
  const auto copy = [](std::span<std::byte> part) {
    copy_half(part);
    keep(0);
  };
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  MemoryCeiling ceiling;
  ceiling.read_GBps = gigabytes / summarize(time_passes(parts, passes, read)).p50;
  ceiling.copy_GBps = gigabytes / 2 / summarize(time_passes(parts, passes, copy)).p50;
  return ceiling;
}

}  // namespace penstock::psbench

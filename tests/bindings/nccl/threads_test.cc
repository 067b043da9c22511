// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// NCCL's threads: each connection by one at a time, different ones at the same time, registration
// and new connections beside them.

#include <atomic>
#include <deque>
#include <thread>

#include "tests/bindings/nccl/driver.h"

namespace penstock::test {
namespace {

constexpr NcclResult kOk = NcclResult::kSuccess;
using NcclThreads = NcclNet;

// So many transfers over each of the pairs, several in flight.
struct Lane {
  static constexpr std::size_t kBytes = 20'000, kDeep = 4;
  static constexpr int kTransfers = 100;

  static void send_all(Plugin& net, Pair& pair, std::atomic<bool>& failed) {
    std::array<std::unique_ptr<Buffer>, kDeep> buffers;
    for (auto& buffer : buffers) buffer = std::make_unique<Buffer>(net, pair.sender, kBytes);
    run(
        failed,
        [&](int i, void** request) {
          Buffer& from = *buffers[static_cast<std::size_t>(i) % kDeep];
          from.fill(static_cast<unsigned>(i));
          return net.send(pair.sender, from.at(), kBytes, 0, from.handle(), request);
        },
        [&](int, void* request, int* done) { return net.test(request, done, nullptr); });
  }

  static void receive_all(Plugin& net, Pair& pair, std::atomic<bool>& failed) {
    std::array<std::unique_ptr<Buffer>, kDeep> buffers;
    for (auto& buffer : buffers) buffer = std::make_unique<Buffer>(net, pair.receiver, kBytes);
    run(
        failed,
        [&](int i, void** request) {
          Buffer& into = *buffers[static_cast<std::size_t>(i) % kDeep];
          void *data = into.at(), *handle = into.handle();
          std::size_t size = kBytes;
          int tag = 0;
          return net.receive(pair.receiver, 1, &data, &size, &tag, &handle, request);
        },
        [&](int i, void* request, int* done) {
          const NcclResult result = net.test(request, done, nullptr);
          if (*done != 0 && !buffers[static_cast<std::size_t>(i) % kDeep]->holds(
                                static_cast<unsigned>(i), kBytes))
            failed = true;
          return result;
        });
  }

 private:
  template <class Start, class Test>
  static void run(std::atomic<bool>& failed, Start start, Test test) {
    std::deque<void*> under_way;
    int started = 0, done = 0;
    const bool over = until([&] {
      if (started < kTransfers && under_way.size() < kDeep) {
        void* request = nullptr;
        if (start(started, &request) != kOk) failed = true;
        if (request != nullptr) under_way.push_back(request), ++started;
      }
      int finished = 0;
      if (!under_way.empty() && test(done, under_way.front(), &finished) != kOk) failed = true;
      if (finished != 0) under_way.pop_front(), ++done;
      return failed || done == kTransfers;
    });
    if (!over) failed = true;
  }
};

TEST_P(NcclThreads, ConnectionsShareNothing) {
  constexpr std::size_t kPairs = 3;
  std::deque<Pair> pairs;
  for (std::size_t i = 0; i < kPairs; ++i) {
    pairs.emplace_back(*net_);
    ASSERT_TRUE(pairs.back().listen() && pairs.back().connect());
  }
  std::atomic<bool> failed{false}, stop{false};
  std::vector<std::thread> threads;
  for (Pair& pair : pairs) {
    threads.emplace_back([&] { Lane::send_all(*net_, pair, failed); });
    threads.emplace_back([&] { Lane::receive_all(*net_, pair, failed); });
  }
  // What NCCL's service thread does meanwhile.
  std::thread service([&] {
    std::vector<std::byte> memory(1 << 16);
    for (int turn = 0; turn < 50 && !stop; ++turn) {
      Pair pair(*net_);
      if (!pair.listen() || !pair.connect()) {
        failed = true;
        return;
      }
      void* handle = nullptr;
      if (net_->register_memory(pair.sender, memory.data(), memory.size(), nccl::kPointerHost,
                                &handle) != kOk ||
          net_->deregister(pair.sender, handle) != kOk)
        failed = true;
    }
  });
  for (std::thread& thread : threads) thread.join();
  stop = true;
  service.join();
  EXPECT_FALSE(failed) << take_log();
}

INSTANTIATE_TEST_SUITE_P(V, NcclThreads, ::testing::Range(8, 13),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace penstock::test

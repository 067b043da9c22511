// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NCCL's side of a connection: every call in the order and with the patience NCCL has. One thread
// plays both ends unless a test says otherwise, so neither may wait for the other inside a call.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "tests/bindings/nccl/plugin.h"

namespace penstock::test {

// Calls `step` until it says true; false after half a minute, which is a test failure.
bool until(const std::function<bool()>& step);

// The device that the connecting end uses: another one than the listening end's 0, if there is.
int connecting_device(Plugin& net);

// A connection with both ends here. Closes what the test did not.
struct Pair {
  Plugin& net;
  HandleBytes handle{};
  void *listener = nullptr, *sender = nullptr, *receiver = nullptr;

  explicit Pair(Plugin& plugin) : net(plugin) {}
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair() { close(); }

  bool listen();
  bool connect();  // after listen()
  void close();
};

// Memory registered with one end.
class Buffer {
 public:
  Buffer(Plugin& net, void* comm, std::size_t bytes);
  ~Buffer() { drop(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void drop();

  void fill(unsigned seed);
  // Position-dependent, so that bytes in the wrong place show.
  bool holds(unsigned seed, std::size_t bytes, std::size_t from = 0) const;
  std::byte* at(std::size_t offset = 0) { return bytes_.data() + offset; }
  std::size_t size() const { return bytes_.size(); }
  void* handle() const { return handle_; }

 private:
  Plugin& net_;
  void* comm_;
  std::vector<std::byte> bytes_;
  void* handle_ = nullptr;
};

class NcclNet : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Null requests are asked again, as NCCL does; null when the call fails or for ever is over.
  void* send(Pair& pair, Buffer& from, std::size_t bytes, int tag, std::size_t offset = 0);
  void* receive(Pair& pair, Buffer& into, std::size_t bytes, int tag, std::size_t offset = 0);
  // One call, whatever comes of it.
  NcclResult try_send(Pair& pair, Buffer& from, std::size_t bytes, int tag, void** request);
  NcclResult try_receive(Pair& pair, Buffer& into, std::size_t bytes, int tag, void** request,
                         std::size_t offset = 0);
  // All of them done; the sizes.
  std::vector<int> finish_all(const std::vector<void*>& requests);
  // Until a call says something else than success; false after half a minute.
  bool fails(void* request);
  // Until it is done. The size of its first buffer, −1 when it failed.
  int finish(void* request);
  // A transfer of `bytes` arrives whole.
  void expect_transfer(Pair& pair, std::size_t bytes, unsigned seed = 1);

  std::unique_ptr<Plugin> net_;
};

}  // namespace penstock::test

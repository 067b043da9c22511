// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/bindings/nccl/driver.h"

#include <sched.h>

#include <algorithm>

#include "transport/base/clock.h"

namespace penstock::test {
namespace {

constexpr NcclResult kOk = NcclResult::kSuccess;

std::byte pattern(unsigned seed, std::size_t at) {
  return static_cast<std::byte>((at * 131 + at / 251 + seed * 17) & 0xff);
}

}  // namespace

bool until(const std::function<bool()>& step) {
  const SystemClock clock;
  const TimeNs deadline_ns = clock.now_ns() + 30 * kSecond;
  while (!step()) {
    ::sched_yield();  // NCCL's own threads do; kernel threads that connect need the processor, too
    if (clock.now_ns() > deadline_ns) {
      ADD_FAILURE() << "half a minute is over; the log says:\n" << take_log();
      return false;
    }
  }
  return true;
}

int connecting_device(Plugin& net) {
  int count = 0;
  EXPECT_EQ(net.devices(&count), kOk);
  return std::min(count, 2) - 1;
}

bool Pair::listen() {
  const bool ok = net.listen(0, handle, &listener) == kOk && listener != nullptr;
  EXPECT_TRUE(ok) << take_log();
  return ok;
}

bool Pair::connect() {
  NcclResult result = kOk;
  const int device = connecting_device(net);
  const bool over = until([&] {
    if (sender == nullptr) result = net.connect(device, handle, &sender);
    if (result == kOk && receiver == nullptr) result = net.accept(listener, &receiver);
    return result != kOk || (sender != nullptr && receiver != nullptr);
  });
  EXPECT_EQ(result, kOk) << take_log();
  return over && result == kOk;
}

void Pair::close() {
  if (sender != nullptr) {
    EXPECT_EQ(net.close_send(sender), kOk);
  }
  if (receiver != nullptr) {
    EXPECT_EQ(net.close_receive(receiver), kOk);
  }
  if (listener != nullptr) {
    EXPECT_EQ(net.close_listen(listener), kOk);
  }
  sender = receiver = listener = nullptr;
}

Buffer::Buffer(Plugin& net, void* comm, std::size_t bytes) : net_(net), comm_(comm), bytes_(bytes) {
  EXPECT_EQ(net_.register_memory(comm_, bytes_.data(), bytes, nccl::kPointerHost, &handle_), kOk)
      << take_log();
}

void Buffer::drop() {
  if (handle_ != nullptr) {
    EXPECT_EQ(net_.deregister(comm_, handle_), kOk) << take_log();
  }
  handle_ = nullptr;
}

void Buffer::fill(unsigned seed) {
  for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = pattern(seed, i);
}

bool Buffer::holds(unsigned seed, std::size_t bytes, std::size_t from) const {
  for (std::size_t i = 0; i < bytes; ++i)
    if (bytes_[from + i] != pattern(seed, from + i)) return false;
  return true;
}

void NcclNet::SetUp() {
  net_ = Plugin::load(GetParam());
  ASSERT_NE(net_, nullptr);
  ASSERT_EQ(net_->init(), kOk) << take_log();
  take_log();
}

void NcclNet::TearDown() {
  if (net_ != nullptr) {
    EXPECT_EQ(net_->finalize(), kOk);
  }
  using Text = const char* (*)();
  if (auto violations = reinterpret_cast<Text>(plugin_symbol("penstock_fake_violations"))) {
    EXPECT_STREQ(violations(), "");
  }
}

NcclResult NcclNet::try_send(Pair& pair, Buffer& from, std::size_t bytes, int tag, void** request) {
  return net_->send(pair.sender, from.at(), bytes, tag, from.handle(), request);
}

NcclResult NcclNet::try_receive(Pair& pair, Buffer& into, std::size_t bytes, int tag,
                                void** request, std::size_t offset) {
  void* data = into.at(offset);
  void* handle = into.handle();
  return net_->receive(pair.receiver, 1, &data, &bytes, &tag, &handle, request);
}

std::vector<int> NcclNet::finish_all(const std::vector<void*>& requests) {
  std::vector<int> sizes(requests.size(), -1), done(requests.size(), 0);
  until([&] {
    bool all = true;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (done[i] == 0 && net_->test(requests[i], &done[i], &sizes[i]) != kOk) {
        ADD_FAILURE() << take_log();
        return true;
      }
      all = all && done[i] != 0;
    }
    return all;
  });
  return sizes;
}

bool NcclNet::fails(void* request) {
  int done = 0;
  NcclResult result = kOk;
  return until([&] {
           if (done == 0) result = net_->test(request, &done, nullptr);
           return result != kOk || done != 0;
         }) &&
         result != kOk;
}

void* NcclNet::send(Pair& pair, Buffer& from, std::size_t bytes, int tag, std::size_t offset) {
  void* request = nullptr;
  NcclResult result = kOk;
  until([&] {
    result = net_->send(pair.sender, from.at(offset), bytes, tag, from.handle(), &request);
    return result != kOk || request != nullptr;
  });
  EXPECT_EQ(result, kOk) << take_log();
  return request;
}

void* NcclNet::receive(Pair& pair, Buffer& into, std::size_t bytes, int tag, std::size_t offset) {
  void* request = nullptr;
  NcclResult result = kOk;
  until([&] {
    result = try_receive(pair, into, bytes, tag, &request, offset);
    return result != kOk || request != nullptr;
  });
  EXPECT_EQ(result, kOk) << take_log();
  return request;
}

int NcclNet::finish(void* request) {
  int done = 0, size = -1;
  NcclResult result = kOk;
  until([&] {
    result = net_->test(request, &done, &size);
    return result != kOk || done != 0;
  });
  EXPECT_EQ(result, kOk) << take_log();
  return result == kOk && done != 0 ? size : -1;
}

void NcclNet::expect_transfer(Pair& pair, std::size_t bytes, unsigned seed) {
  Buffer from(*net_, pair.sender, std::max<std::size_t>(bytes, 1));
  Buffer into(*net_, pair.receiver, std::max<std::size_t>(bytes, 1));
  from.fill(seed);
  void* receiving = receive(pair, into, bytes, 7);
  ASSERT_NE(receiving, nullptr);
  void* sending = send(pair, from, bytes, 7);
  ASSERT_NE(sending, nullptr);
  int sent = 0, received = 0, size = -1;
  ASSERT_TRUE(until([&] {
    if (sent == 0) {
      EXPECT_EQ(net_->test(sending, &sent, nullptr), kOk) << take_log();
    }
    if (received == 0) {
      EXPECT_EQ(net_->test(receiving, &received, &size), kOk) << take_log();
    }
    return sent != 0 && received != 0;
  }));
  EXPECT_EQ(size, static_cast<int>(bytes));
  EXPECT_TRUE(into.holds(seed, bytes));
}

}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/message_stream.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <optional>
#include <random>

#include "transport/loopback/fabric.h"

namespace penstock::test {
namespace {

OpenMessage make_message(std::uint32_t id, std::initializer_list<std::size_t> sizes) {
  OpenMessage message;
  message.meta.resize(sizeof id);
  std::memcpy(message.meta.data(), &id, sizeof id);
  for (const std::size_t size : sizes) {
    auto memory = std::make_shared<std::vector<std::byte>>(size);
    for (std::size_t i = 0; i < size; ++i)
      (*memory)[i] = static_cast<std::byte>((i * 7 + id * 13 + i / 251) & 0xff);
    message.parts.push_back({{memory->data(), size}, memory});
  }
  return message;
}

std::uint32_t id_of(const OpenMessage& message) {
  std::uint32_t id = 0;
  if (message.meta.size() == sizeof id) std::memcpy(&id, message.meta.data(), sizeof id);
  return id;
}

bool intact(const OpenMessage& message) {
  const std::uint32_t id = id_of(message);
  for (const MessagePart& part : message.parts)
    for (std::size_t i = 0; i < part.bytes.size(); ++i)
      if (part.bytes[i] != static_cast<std::byte>((i * 7 + id * 13 + i / 251) & 0xff)) return false;
  return true;
}

// One end: a device, a queue and a stream, driven by hand.
struct End final : MessageReceiver {
  End(LoopbackFabric& fabric, Incarnation incarnation)
      : device(fabric.create_device(incarnation)),
        queue(std::move(device->create_completion_queue(256).value())),
        regions(*device),
        stream(std::make_unique<MessageStream>(*device, regions, kAnyScope, 0, *this)) {}
  ~End() override {
    stream.reset();
    endpoint.reset();
  }

  void on_open_message(Rank, OpenMessage&& message) override {
    EXPECT_TRUE(intact(message)) << "message " << id_of(message);
    ids.push_back(id_of(message));
    sizes.emplace_back();
    for (const MessagePart& part : message.parts) sizes.back().push_back(part.bytes.size());
    last = std::move(message);
  }
  void place_open_message(Rank, std::span<const std::byte>, std::span<const std::uint64_t> lengths,
                          std::span<MessagePart> parts) override {
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (place.size() == lengths[i] && !place.empty()) parts[i].bytes = place;
  }

  void send(OpenMessage message) {
    auto prepared = MessageStream::prepare(regions, std::move(message));
    ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
    stream->send(std::move(*prepared));
  }

  void step() {
    std::array<Completion, 16> completions;
    const std::size_t count = queue->poll(completions);
    for (std::size_t i = 0; i < count; ++i) {
      const Completion& completion = completions[i];
      if (carries_message(completion)) {
        const Status taken = stream->on_completion(completion);
        ASSERT_TRUE(taken.ok()) << taken.to_string();
      } else if (completion.event == Event::kConnected) {
        const Status up = stream->connected(*endpoint, peer_expects);
        ASSERT_TRUE(up.ok()) << up.to_string();
      } else if (completion.event == Event::kDisconnected) {
        stream->disconnected();
        endpoint.reset();
      }
    }
    stream->pump();
    queue->arm();
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<CompletionQueue> queue;
  RegionCache regions;
  std::unique_ptr<MessageStream> stream;
  std::unique_ptr<Endpoint> endpoint;
  std::uint64_t peer_expects = 0;
  std::vector<std::uint32_t> ids;
  std::vector<std::vector<std::size_t>> sizes;
  std::optional<OpenMessage> last;
  std::span<std::byte> place;
};

class MessageStreamTest : public ::testing::Test {
 protected:
  void connect() {
    EndpointOptions options;
    options.token = random_token();
    options.deadline_ns = clock_.now_ns() + kSecond;
    a_.peer_expects = b_.stream->expects();
    b_.peer_expects = a_.stream->expects();
    b_.endpoint = std::move(b_.device->accept(*b_.queue, options).value());
    a_.endpoint = std::move(a_.device->connect(*a_.queue, b_.device->address(), options).value());
  }
  void step() {
    a_.step();
    b_.step();
  }
  template <class Condition>
  bool run_until(Condition condition) {
    for (int i = 0; i < 200'000; ++i) {
      if (condition()) return true;
      step();
    }
    return false;
  }

  SystemClock clock_;
  LoopbackFabric fabric_{clock_};
  End a_{fabric_, 1};
  End b_{fabric_, 2};
};

TEST_F(MessageStreamTest, SizesOfAllKindsArriveInOrder) {
  connect();
  const std::vector<std::size_t> lengths = {0,      1,      100,     4000,    4096,      5000,
                                            16'384, 16'385, 100'000, 1 << 20, 5'000'001, 3};
  for (std::uint32_t id = 0; id < lengths.size(); ++id)
    a_.send(make_message(id, {8, lengths[id], 0}));
  a_.send(make_message(90, {}));
  a_.send(make_message(91, {0, 0, 0, 70'000}));
  ASSERT_TRUE(run_until([&] { return b_.ids.size() == lengths.size() + 2; }));
  for (std::uint32_t id = 0; id < lengths.size(); ++id) {
    EXPECT_EQ(b_.ids[id], id);
    EXPECT_EQ(b_.sizes[id], (std::vector<std::size_t>{8, lengths[id], 0}));
  }
  EXPECT_TRUE(b_.sizes[lengths.size()].empty());
}

TEST_F(MessageStreamTest, BothWaysAtOnceAndMoreThanFits) {
  connect();
  constexpr std::uint32_t kMessages = 500;
  for (std::uint32_t id = 0; id < kMessages; ++id) {
    a_.send(make_message(id, {id % 3 == 0 ? std::size_t{40'000} : id}));
    b_.send(make_message(id, {id % 5 == 0 ? std::size_t{20'000} : 4 * id}));
  }
  ASSERT_TRUE(run_until([&] { return a_.ids.size() == kMessages && b_.ids.size() == kMessages; }));
  for (std::uint32_t id = 0; id < kMessages; ++id) {
    ASSERT_EQ(a_.ids[id], id);
    ASSERT_EQ(b_.ids[id], id);
  }
}

TEST_F(MessageStreamTest, HigherPriorityLeavesFirst) {
  for (std::uint32_t id = 0; id < 6; ++id) {
    OpenMessage message = make_message(id, {10});
    message.priority = id % 2 == 0 ? 0 : 5;
    a_.send(std::move(message));
  }
  connect();
  ASSERT_TRUE(run_until([&] { return b_.ids.size() == 6; }));
  EXPECT_EQ(b_.ids, (std::vector<std::uint32_t>{1, 3, 5, 0, 2, 4}));
}

TEST_F(MessageStreamTest, ALargePartLandsWhereTheReceiverWantsIt) {
  std::vector<std::byte> mine(300'000);
  b_.place = mine;
  connect();
  a_.send(make_message(7, {50, mine.size()}));
  ASSERT_TRUE(run_until([&] { return b_.ids.size() == 1; }));
  EXPECT_EQ(b_.last->parts[1].bytes.data(), mine.data());
  EXPECT_NE(b_.last->parts[0].bytes.data(), nullptr);
}

TEST_F(MessageStreamTest, MemoryOfTheSenderIsReleasedWhenThePeerHasIt) {
  connect();
  for (const std::size_t size : {std::size_t{100}, std::size_t{100'000}}) {
    OpenMessage message = make_message(1, {size});
    const std::weak_ptr<const void> owner = message.parts[0].owner;
    const std::size_t before = b_.ids.size();
    a_.send(std::move(message));
    EXPECT_FALSE(owner.expired());
    ASSERT_TRUE(run_until([&] { return owner.expired(); }));
    EXPECT_TRUE(run_until([&] { return b_.ids.size() == before + 1; }));
  }
}

TEST_F(MessageStreamTest, LandingMemoryIsUsedAgainAndOutlivesTheStream) {
  connect();
  a_.send(make_message(1, {60'000}));
  ASSERT_TRUE(run_until([&] { return b_.ids.size() == 1; }));
  const void* const first = b_.last->parts[0].bytes.data();
  b_.last.reset();
  a_.send(make_message(2, {50'000}));
  ASSERT_TRUE(run_until([&] { return b_.ids.size() == 2; }));
  EXPECT_EQ(b_.last->parts[0].bytes.data(), first);
  const OpenMessage kept = std::move(*b_.last);
  b_.stream->disconnected();
  b_.endpoint.reset();
  b_.stream.reset();
  EXPECT_TRUE(intact(kept));
  b_.stream = std::make_unique<MessageStream>(*b_.device, b_.regions, kAnyScope, 0, b_);
  a_.endpoint->close();
}

// Connections are cut at random points; every message arrives once, in order, whole.
TEST_F(MessageStreamTest, CutsLoseNothingAndDoubleNothing) {
  std::mt19937 random(20);
  constexpr std::uint32_t kMessages = 300;
  std::uint32_t sent = 0;
  int cuts = 0;
  connect();
  for (int i = 0; i < 400'000 && (a_.ids.size() < kMessages || b_.ids.size() < kMessages); ++i) {
    if (sent < kMessages && random() % 3 == 0) {
      const std::size_t size = random() % 4 == 0 ? 20'000 + random() % 100'000 : random() % 9000;
      a_.send(make_message(sent, {size}));
      b_.send(make_message(sent, {size / 2, size % 100}));
      ++sent;
    }
    step();
    if (HasFatalFailure()) return;
    if (a_.endpoint != nullptr && b_.endpoint != nullptr && random() % 40 == 0 && cuts < 100) {
      fabric_.cut_endpoints(a_.device->address(), b_.device->address());
      ASSERT_TRUE(run_until([&] { return a_.endpoint == nullptr && b_.endpoint == nullptr; }));
      connect();
      ++cuts;
    }
  }
  EXPECT_GT(cuts, 10);
  ASSERT_EQ(a_.ids.size(), kMessages);
  ASSERT_EQ(b_.ids.size(), kMessages);
  for (std::uint32_t id = 0; id < kMessages; ++id) {
    ASSERT_EQ(a_.ids[id], id);
    ASSERT_EQ(b_.ids[id], id);
  }
}

TEST_F(MessageStreamTest, FramesThatNobodySendsAreRefused) {
  connect();
  a_.send(make_message(0, {5}));
  ASSERT_TRUE(run_until([&] { return b_.ids.size() == 1; }));
  std::mt19937 random(4);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::byte> frame(random() % 200);
    for (std::byte& byte : frame) byte = static_cast<std::byte>(random() % 8);
    Completion completion;
    completion.event = Event::kMessage;
    completion.message = frame;
    (void)b_.stream->on_completion(completion);  // any answer, no crash
  }
  EXPECT_EQ(b_.ids.size(), 1U);
}

TEST_F(MessageStreamTest, TooMuchMetaIsRefusedInWords) {
  OpenMessage message = make_message(0, {1, 2, 3, 4});
  message.parts.push_back({});
  const auto refused = MessageStream::prepare(a_.regions, std::move(message));
  EXPECT_EQ(refused.status().code(), Code::kInvalidArgument);
  EXPECT_NE(refused.status().what().find("5 parts"), std::string::npos);
}

}  // namespace
}  // namespace penstock::test

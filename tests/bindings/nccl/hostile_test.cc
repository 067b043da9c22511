// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A peer that knows the token and then says what no plugin says. It costs its own connection.

#include <cstring>

#include "bindings/nccl/announcement.h"
#include "bindings/nccl/handle.h"
#include "tests/bindings/nccl/driver.h"
#include "transport/providers.h"

namespace penstock::test {
namespace {

using nccl::Announcement;
constexpr NcclResult kOk = NcclResult::kSuccess;

std::array<std::byte, Announcement::kBytes> valid() {
  std::array<std::byte, Announcement::kBytes> bytes{};
  nccl::encode_announcement({.slot = 1,
                             .index = 0,
                             .count = 2,
                             .tag = -5,
                             .size = 10,
                             .offset = 90,
                             .region = {.providers = 2, .maps = 1, .length = 100}},
                            bytes);
  return bytes;
}

TEST(NcclAnnouncement, IsReadAsItWasWritten) {
  const auto bytes = valid();
  const Result<Announcement> read = nccl::decode_announcement(bytes);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->slot, 1);
  EXPECT_EQ(read->count, 2);
  EXPECT_EQ(read->tag, -5);
  EXPECT_EQ(read->size, 10U);
  EXPECT_EQ(read->offset, 90U);
  EXPECT_EQ(read->region.length, 100U);
  EXPECT_EQ(read->region.providers, 2);
}

TEST(NcclAnnouncement, IsRefusedWhereItIsWrong) {
  struct Wrong {
    std::size_t at;
    unsigned char value;
  };
  for (const auto [at, value] :
       {Wrong{0, 9}, Wrong{1, 32}, Wrong{2, 2}, Wrong{3, 0}, Wrong{3, 9}, Wrong{8, 11},
        Wrong{15, 1}, Wrong{16, 91}, Wrong{23, 255}, Wrong{26, 1}, Wrong{28, 1}}) {
    auto bytes = valid();
    bytes[at] = std::byte{value};
    EXPECT_FALSE(nccl::decode_announcement(bytes).ok()) << at;
  }
  const auto bytes = valid();
  EXPECT_FALSE(nccl::decode_announcement(std::span(bytes).first(100)).ok());
  EXPECT_FALSE(nccl::decode_announcement({}).ok());
}

TEST(NcclImmediate, HoldsSlotIndexAndPieces) {
  const std::uint32_t most = nccl::pack({31, 7, (1U << 24) - 1});
  EXPECT_EQ(most, 0xffffffffU);
  const nccl::Arrival arrival = nccl::unpack(nccl::pack({19, 5, 1025}));
  EXPECT_EQ(arrival.slot, 19U);
  EXPECT_EQ(arrival.index, 5U);
  EXPECT_EQ(arrival.pieces, 1025U);
  EXPECT_EQ(nccl::pieces_of(0), 1U);
  EXPECT_EQ(nccl::pieces_of(nccl::kPieceBytes), 1U);
  EXPECT_EQ(nccl::pieces_of(nccl::kPieceBytes + 1), 2U);
}

// A raw endpoint of the same transport, in the place of the other end.
class NcclHostile : public NcclNet {
 protected:
  void SetUp() override {
    NcclNet::SetUp();
    device_ = open_device({.provider = PENSTOCK_TEST_TRANSPORT}, clock_).value();
    queue_ = device_->create_completion_queue(64).value();
    region_ = device_->allocate_memory(4096, Access::kRemoteReadWrite).value();
  }
  void TearDown() override {
    endpoint_.reset();
    NcclNet::TearDown();
  }
  void poll() {
    std::array<Completion, 16> events;
    const std::size_t count = queue_->poll(events);
    for (std::size_t i = 0; i < count; ++i)
      if (events[i].event == Event::kMessage)
        announced_ = nccl::decode_announcement(events[i].message).value();
    device_->progress();
  }
  // It sends: connects to a listener of the plugin's.
  bool connect(Pair& pair) {
    if (!pair.listen()) return false;
    const nccl::ListenHandle handle = nccl::decode_handle(pair.handle).value();
    EndpointOptions options;
    options.token = handle.token;
    endpoint_ = device_->connect(*queue_, handle.address, options).value();
    return until([&] {
      poll();
      if (pair.receiver == nullptr && net_->accept(pair.listener, &pair.receiver) != kOk)
        ADD_FAILURE() << take_log();
      return endpoint_->connected() && pair.receiver != nullptr;
    });
  }
  // It receives: the plugin connects to it.
  bool accept(Pair& pair) {
    nccl::ListenHandle handle{.token = random_token(), .address = device_->address()};
    if (!nccl::encode_handle(handle, pair.handle).ok()) return false;
    EndpointOptions options;
    options.token = handle.token;
    endpoint_ = device_->accept(*queue_, options).value();
    return until([&] {
      poll();
      if (pair.sender == nullptr && net_->connect(0, pair.handle, &pair.sender) != kOk)
        ADD_FAILURE() << take_log();
      return endpoint_->connected() && pair.sender != nullptr;
    });
  }
  void say(std::span<const std::byte> message) {
    std::memcpy(region_->bytes().data(), message.data(), message.size());
    WorkRequest work;
    work.opcode = Opcode::kSend;
    work.local = region_.get();
    work.length = message.size();
    EXPECT_TRUE(endpoint_->post(work).ok());
  }
  void write(std::uint32_t immediate, std::uint64_t length) {
    WorkRequest work;
    work.has_immediate = true;
    work.immediate = immediate;
    work.local = length > 0 ? region_.get() : nullptr;
    work.length = length;
    work.remote = length > 0 ? &announced_.region : nullptr;
    work.remote_offset = announced_.offset;
    EXPECT_TRUE(endpoint_->post(work).ok());
  }

  SystemClock clock_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<CompletionQueue> queue_;
  std::unique_ptr<MemoryRegion> region_;
  std::unique_ptr<Endpoint> endpoint_;
  Announcement announced_;
};

TEST_P(NcclHostile, ImmediatesForNoReceiveEndTheConnection) {
  for (const nccl::Arrival wrong : {nccl::Arrival{5, 0, 1}, {0, 1, 1}, {0, 0, 0}}) {
    Pair pair(*net_);
    ASSERT_TRUE(connect(pair));
    Buffer into(*net_, pair.receiver, 100);
    void* receiving = receive(pair, into, 100, 0);
    ASSERT_NE(receiving, nullptr);
    ASSERT_TRUE(until([&] { return poll(), announced_.count == 1; }));
    write(nccl::pack(wrong), 0);
    ASSERT_TRUE(until([&] {
      poll();
      int done = 0;
      const NcclResult result = net_->test(receiving, &done, nullptr);
      EXPECT_EQ(done, 0);
      return result == NcclResult::kRemoteError;
    }));
    EXPECT_NE(take_log().find("bytes for no receive"), std::string::npos);
    endpoint_.reset();
    announced_ = {};
  }
}

TEST_P(NcclHostile, MorePiecesThanFitEndTheConnection) {
  Pair pair(*net_);
  ASSERT_TRUE(connect(pair));
  Buffer into(*net_, pair.receiver, 100);
  void* receiving = receive(pair, into, 100, 0);
  ASSERT_NE(receiving, nullptr);
  ASSERT_TRUE(until([&] { return poll(), announced_.count == 1; }));
  for (int i = 0; i < 2; ++i) write(nccl::pack({announced_.slot, 0, 3}), 60);
  ASSERT_TRUE(until([&] {
    poll();
    int done = 0;
    return net_->test(receiving, &done, nullptr) == NcclResult::kRemoteError;
  }));
  take_log();
}

TEST_P(NcclHostile, AnnouncementsOutOfOrderEndTheConnection) {
  auto second_first = valid();
  second_first[2] = std::byte{1};
  auto wrong = valid();
  wrong[0] = std::byte{77};
  for (const auto& message : {second_first, wrong}) {
    Pair pair(*net_);
    ASSERT_TRUE(accept(pair));
    say(message);
    Buffer from(*net_, pair.sender, 10);
    void* request = nullptr;
    ASSERT_TRUE(until([&] {
      poll();
      const NcclResult result = try_send(pair, from, 10, 0, &request);
      EXPECT_EQ(request, nullptr);
      return result == NcclResult::kRemoteError;
    }));
    endpoint_.reset();
    take_log();
  }
}

TEST_P(NcclHostile, MoreAnnouncementsThanAConnectionHasEndIt) {
  Pair pair(*net_);
  ASSERT_TRUE(accept(pair));
  auto message = valid();
  message[3] = std::byte{1};  // a receive of its own each
  Buffer from(*net_, pair.sender, 10);
  ASSERT_TRUE(until([&] {
    poll();
    if (endpoint_->connected() && endpoint_->send_free() > 0) say(message);
    void* request = nullptr;  // no such tag
    return try_send(pair, from, 10, 1, &request) == NcclResult::kRemoteError;
  }));
  EXPECT_NE(take_log().find("more receives"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(V, NcclHostile, ::testing::Values(8, 12),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace penstock::test

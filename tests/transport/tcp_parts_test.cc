// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The pure parts of the provider: checksum, header, region table, and a sender and a receiver
// joined by a stream that is cut anywhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/transport/tcp_raw_peer.h"
#include "transport/base/random.h"
#include "transport/tcp/crc32c.h"
#include "transport/tcp/receiver.h"
#include "transport/tcp/sender.h"

namespace penstock::tcp {
namespace {

TEST(Crc32c, GivesThePublishedValue) {
  constexpr std::string_view kDigits = "123456789";
  EXPECT_EQ(crc32c(std::as_bytes(std::span(kDigits))), 0xe3069283U);
  EXPECT_EQ(crc32c_by_table(std::as_bytes(std::span(kDigits))), 0xe3069283U);
}

TEST(Crc32c, InstructionAndTableAgree) {
  SeededRandom random(1);
  for (std::size_t length = 0; length < 200; ++length) {
    std::vector<std::byte> bytes(length);
    for (std::byte& byte : bytes) byte = std::byte(random.next());
    EXPECT_EQ(crc32c(bytes), crc32c_by_table(bytes)) << length;
  }
}

TEST(Frame, ASealedHeaderParsesToItself) {
  const FrameHeader header = sealed({.type = FrameType::kWrite,
                                     .flags = kFlagImmediate,
                                     .incarnation = 1,
                                     .key = 2,
                                     .offset = 3,
                                     .length = 4,
                                     .sequence = 5,
                                     .ack = 6,
                                     .immediate = 7});
  FrameHeader parsed;
  ASSERT_EQ(parse_header(bytes_of(header), parsed), nullptr);
  EXPECT_EQ(std::memcmp(&parsed, &header, kHeaderBytes), 0);
}

TEST(RegionTable, ResolvesWhatItsRegionsGrantAndNothingElse) {
  RegionTable table(9);
  std::vector<std::byte> bytes(100);
  const std::uint64_t key = table.add(bytes, Access::kRemoteWrite, 5).value();
  const auto resolve = [&](RegionTable::Request request) {
    const RegionTable::Claim claim = table.resolve(request);
    if (claim.code == Code::kOk) {
      EXPECT_EQ(claim.bytes.data(), bytes.data() + request.offset);
    }
    return claim.code;
  };
  const RegionTable::Request good{
      .incarnation = 9, .key = key, .offset = 60, .length = 40, .scope = 5};
  EXPECT_EQ(resolve(good), Code::kOk);
  RegionTable::Request bad = good;
  bad.length = 41;
  EXPECT_EQ(resolve(bad), Code::kAccess);
  bad = good;
  bad.offset = UINT64_MAX - 39;  // offset + length wraps to 0
  EXPECT_EQ(resolve(bad), Code::kAccess);
  bad = good;
  bad.wanted = Access::kRemoteRead;
  EXPECT_EQ(resolve(bad), Code::kAccess);
  bad = good;
  bad.scope = 6;
  EXPECT_EQ(resolve(bad), Code::kAccess);
  bad = good;
  bad.incarnation = 8;
  EXPECT_EQ(resolve(bad), Code::kStale);
  table.remove(key);
  EXPECT_EQ(resolve(good), Code::kStale);
  EXPECT_NE(table.add(bytes, Access::kRemoteWrite, 5).value(), key);
  EXPECT_EQ(resolve(good), Code::kStale);
}

TEST(RegionTable, SaysWhenItIsFull) {
  RegionTable table(1);
  std::byte byte{};
  std::vector<std::uint64_t> keys;
  for (std::uint32_t i = 0; i < parts::kMaxRegions; ++i)
    keys.push_back(table.add({&byte, 1}, Access::kLocal, kAnyScope).value());
  EXPECT_EQ(table.add({&byte, 1}, Access::kLocal, kAnyScope).status().code(), Code::kExhausted);
  table.remove(keys[7]);
  EXPECT_TRUE(table.add({&byte, 1}, Access::kLocal, kAnyScope).ok());
}

// After remove() the bytes are ours alone: the thread sanitizer sees a landing that is not.
TEST(RegionTable, RemovalWaitsForLandings) {
  RegionTable table(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::byte> bytes(4096);
    const std::uint64_t key = table.add(bytes, Access::kRemoteWrite, kAnyScope).value();
    std::atomic<int> landed{0};
    std::thread lane([&] {
      while (const RegionTable::Guard guard = table.enter(key)) {
        std::fill(bytes.begin(), bytes.end(), std::byte{1});
        landed.fetch_add(1, std::memory_order_relaxed);
      }
    });
    ASSERT_TRUE(eventually([&] { return landed.load(std::memory_order_relaxed) > 2; }));
    table.remove(key);
    std::fill(bytes.begin(), bytes.end(), std::byte{2});
    lane.join();
    EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{2}), 4096);
  }
}

// Moves bytes from a sender's batches into a receiver, in pieces of random size.
class Wire {
 public:
  explicit Wire(std::uint64_t seed) : random_(seed) {}

  // One piece out of the sender. False when it has nothing to send.
  bool carry(Sender& sender, std::uint64_t ack) {
    if (!sender.has_outgoing()) return false;
    std::size_t left = 1 + random_.below(random_.chance(500'000) ? 100 : 100'000);
    std::size_t taken = 0;
    for (const iovec& part : sender.batch(ack)) {
      const std::size_t bytes = std::min(left, part.iov_len);
      const auto* from = static_cast<const std::byte*>(part.iov_base);
      for (std::size_t i = 0; i < bytes; ++i) stream_.push_back(from[i]);
      taken += bytes;
      left -= bytes;
      if (left == 0) break;
    }
    sender.advance(taken);
    return true;
  }
  // One read into the receiver. False when the stream is empty or the receiver wants none.
  bool deliver(Receiver& receiver) {
    iovec space[2];
    const int count = receiver.prepare(space, 1 + random_.below(200'000));
    std::size_t given = 0;
    const std::size_t available = std::min(stream_.size() - at_, 1 + random_.below(150'000));
    for (int i = 0; i < count && given < available; ++i) {
      const std::size_t bytes = std::min(space[i].iov_len, available - given);
      std::memcpy(space[i].iov_base, stream_.data() + at_ + given, bytes);
      given += bytes;
    }
    at_ += given;
    receiver.commit(given);
    return given > 0;
  }

 private:
  SeededRandom random_;
  std::vector<std::byte> stream_;
  std::size_t at_ = 0;
};

TEST(SenderAndReceiver, CarryEveryFrameWhereverTheStreamIsCut) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    SeededRandom random(seed);
    constexpr std::size_t kBytes = 300'000;
    constexpr std::uint32_t kPosts = 200;
    std::vector<std::byte> source(kBytes), target(kBytes), expected(kBytes);
    for (std::byte& byte : source) byte = std::byte(random.next());
    RegionTable table(3);
    const std::uint64_t key = table.add(target, Access::kRemoteWrite, kAnyScope).value();
    Sender sender(kPosts);
    Receiver receiver(table, kAnyScope, Receiver::Side::kAcceptor);
    Wire wire(seed);

    std::vector<std::uint64_t> lengths;
    for (std::uint32_t i = 0; i < kPosts; ++i) {
      const bool message = random.chance(300'000);
      const std::uint64_t length = message
                                       ? random.below(kMaxMessageBytes + 1)
                                       : random.below(random.chance(700'000) ? 5'000 : kBytes / 4);
      const std::uint64_t offset = random.below(kBytes - length);
      lengths.push_back(length);
      FrameHeader header{.type = message ? FrameType::kSend : FrameType::kWrite};
      if (!message) {
        header.flags = kFlagImmediate;
        header.immediate = i;
        header.incarnation = 3;
        header.key = key;
        header.offset = offset;
        std::copy_n(source.begin() + static_cast<std::ptrdiff_t>(offset), length,
                    expected.begin() + static_cast<std::ptrdiff_t>(offset));
      }
      sender.push({.header = header,
                   .local = std::span(source).subspan(offset, length),
                   .tag = i,
                   .opcode = message ? Opcode::kSend : Opcode::kWrite});
    }

    std::uint64_t arrived = 0;
    while (arrived < kPosts) {
      const Arrival arrival = receiver.next();
      if (arrival.kind == Arrival::Kind::kFrame) {
        ASSERT_EQ(arrival.header.sequence, ++arrived);
        ASSERT_EQ(arrival.header.length, lengths[arrived - 1]);
        ASSERT_EQ(receiver.applied(), arrived);
        ASSERT_TRUE(sender.acknowledge(arrived));
        ASSERT_TRUE(sender.oldest_done());
        ASSERT_EQ(sender.oldest()->tag, arrived - 1);
        if (arrival.header.type == FrameType::kSend) {
          ASSERT_TRUE(std::equal(arrival.message.begin(), arrival.message.end(),
                                 sender.oldest()->local.begin()));
        }
        sender.retire_oldest();
        continue;
      }
      if (arrival.kind == Arrival::Kind::kMessageRoom) {
        receiver.release_messages();
        continue;
      }
      ASSERT_EQ(arrival.kind, Arrival::Kind::kNeedBytes) << arrival.what;
      const bool moved = wire.deliver(receiver);
      ASSERT_TRUE(wire.carry(sender, 0) || moved);
    }
    EXPECT_EQ(target, expected);
    EXPECT_FALSE(receiver.inside_frame());
    EXPECT_EQ(sender.oldest(), nullptr);
  }
}

}  // namespace
}  // namespace penstock::tcp

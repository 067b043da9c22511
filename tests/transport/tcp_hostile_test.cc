// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What an authenticated peer may say wrong. Each time: that endpoint ends with a named error, the
// peer is told which where it can be told, nothing lands, and an endpoint beside it goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/transport/tcp_raw_peer.h"

namespace penstock {
namespace {

using tcp::FrameHeader;
using tcp::FrameType;

class TcpHostile : public ::testing::Test {
 protected:
  static constexpr std::size_t kRegionBytes = 4096;

  void SetUp() override {
    ASSERT_TRUE(good_.connect());
    victim_bytes_.resize(kRegionBytes);
    region_ =
        good_.b.device->register_memory(victim_bytes_, MemoryKind::kHost, Access::kRemoteReadWrite)
            .value();
  }

  // Every test: the endpoint beside the victim still moves bytes, both ways.
  void TearDown() override {
    for (auto [from, to] : {std::pair(&good_.a, &good_.b), std::pair(&good_.b, &good_.a)}) {
      ASSERT_TRUE(from->write(*to, 0, 1000, 9).ok());
      ASSERT_TRUE(to->wait_for(Event::kImmediate).has_value());
      ASSERT_TRUE(from->wait_for(Event::kWriteDone).has_value());
    }
    EXPECT_TRUE(std::all_of(victim_bytes_.begin(), victim_bytes_.end(),
                            [](std::byte b) { return b == std::byte{0}; }));
  }

  // A fresh raw connection to an endpoint of `good_.b`'s queue, welcomed.
  RawPeer enter() {
    EndpointOptions options;
    options.id = 66;
    options.token = random_token();
    victim_ = good_.b.device->accept(*good_.b.queue, options).value();
    RawPeer raw(good_.b.device->address());
    EXPECT_TRUE(raw.say_hello(options.token));
    const auto welcome = raw.hear(drive_);
    EXPECT_TRUE(welcome.has_value() && welcome->type == FrameType::kWelcome);
    EXPECT_TRUE(good_.b.wait_for(Event::kConnected).has_value());
    return raw;
  }

  FrameHeader write(std::uint64_t offset, std::uint64_t length) const {
    return {.type = FrameType::kWrite,
            .flags = tcp::kFlagImmediate,
            .incarnation = region_->describe().incarnation,
            .key = region_->describe().key[key_slot(ProviderKind::kTcp)],
            .offset = offset,
            .length = length,
            .sequence = 1,
            .immediate = 3};
  }

  void expect_end(Code code, const char* what) {
    const auto end = good_.b.wait_for(Event::kDisconnected);
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(end->endpoint, 66U);
    EXPECT_EQ(code_name(end->code), code_name(code));
    EXPECT_EQ(code_name(victim_->status().code()), code_name(code));
    EXPECT_THAT(victim_->status().what(), ::testing::HasSubstr(what));
    EXPECT_THAT(victim_->status().peer(), ::testing::StartsWith("127.0.0.1:"));
    EXPECT_TRUE(good_.b.events.empty());  // no immediate, no message
  }
  void expect_told(RawPeer& raw, Code code, std::uint64_t sequence) {
    const auto answer = raw.hear(drive_);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->type, FrameType::kError);
    EXPECT_EQ(code_name(static_cast<Code>(answer->immediate)), code_name(code));
    EXPECT_EQ(answer->sequence, sequence);
  }
  // Receive one header of nonsense. Expect kProtocol and the reason.
  void expect_garbage(const FrameHeader& header, const char* what) {
    RawPeer raw = enter();
    ASSERT_TRUE(raw.say(header));
    expect_end(Code::kProtocol, what);
    expect_told(raw, Code::kProtocol, 0);
  }
  // Receive a request its region does not grant. Expect the code, and the peer told which post.
  void expect_refused(FrameHeader header, Code code) {
    for (const FrameType type : {FrameType::kWrite, FrameType::kReadRequest}) {
      header.type = type;
      if (type == FrameType::kReadRequest) header.flags = 0, header.immediate = 0;
      RawPeer raw = enter();
      ASSERT_TRUE(raw.say(sealed(header)));
      expect_end(code, "refused");
      expect_told(raw, code, 1);
    }
  }

  TcpPair good_;
  std::vector<std::byte> victim_bytes_;
  std::unique_ptr<MemoryRegion> region_;
  std::unique_ptr<Endpoint> victim_;
  std::function<void()> drive_ = [this] { good_.b.poll(); };
};

TEST_F(TcpHostile, WrongMagic) {
  FrameHeader header = write(0, 8);
  header.magic ^= 1;
  expect_garbage(sealed(header), "magic");
}

TEST_F(TcpHostile, WrongVersion) {
  FrameHeader header = write(0, 8);
  header.version = 2;
  expect_garbage(sealed(header), "version");
}

TEST_F(TcpHostile, WrongChecksum) {
  FrameHeader header = sealed(write(0, 8));
  header.checksum ^= 0x80000000U;
  expect_garbage(header, "checksum");
}

TEST_F(TcpHostile, AnyBitOfAHeaderFlipped) {
  const FrameHeader good = sealed(write(0, 8));
  for (std::size_t bit = 0; bit < 8 * tcp::kHeaderBytes; bit += 37) {
    FrameHeader bad = good;
    reinterpret_cast<unsigned char*>(&bad)[bit / 8] ^= static_cast<unsigned char>(1U << bit % 8);
    expect_garbage(bad, "");
  }
}

TEST_F(TcpHostile, UnknownType) {
  for (const int type : {0, 10, 255}) {
    FrameHeader header = write(0, 8);
    header.type = static_cast<FrameType>(type);
    expect_garbage(sealed(header), "unknown frame type");
  }
}

TEST_F(TcpHostile, ReservedFlags) {
  FrameHeader header = write(0, 8);
  header.flags = 2;
  expect_garbage(sealed(header), "flag");
}

TEST_F(TcpHostile, AnImmediateWithoutItsFlag) {
  FrameHeader header = write(0, 8);
  header.flags = 0;
  expect_garbage(sealed(header), "immediate");
}

TEST_F(TcpHostile, FieldsThatAFrameDoesNotUse) {
  for (const FrameType type : {FrameType::kAck, FrameType::kClose, FrameType::kSend,
                               FrameType::kReadResponse, FrameType::kError}) {
    FrameHeader header{.type = type, .key = 1, .immediate = type == FrameType::kError ? 1U : 0U};
    if (type == FrameType::kSend || type == FrameType::kReadResponse) header.sequence = 1;
    expect_garbage(sealed(header), "does not use");
  }
}

TEST_F(TcpHostile, FramesOfTheHandshakeAfterIt) {
  FrameHeader header{.type = FrameType::kHello, .incarnation = 1, .length = 16, .immediate = 1};
  expect_garbage(sealed(header), "unexpected hello");
  header.type = FrameType::kWelcome;
  header.length = 0;
  expect_garbage(sealed(header), "unexpected welcome");
}

TEST_F(TcpHostile, SequenceNumbersThatSkipOrRepeat) {
  for (const std::uint64_t sequence : {0UL, 2UL, std::numeric_limits<std::uint64_t>::max()}) {
    FrameHeader header = write(0, 8);
    header.sequence = sequence;
    expect_garbage(sealed(header), "sequence");
  }
}

TEST_F(TcpHostile, AcknowledgementsOfWhatWasNeverSent) {
  expect_garbage(sealed({.type = FrameType::kAck, .ack = 1}), "never sent");
}

TEST_F(TcpHostile, AReadResponseNobodyAskedFor) {
  expect_garbage(sealed({.type = FrameType::kReadResponse, .length = 64, .sequence = 1}),
                 "nobody asked");
}

TEST_F(TcpHostile, AMessageLongerThanAllowed) {
  expect_garbage(
      sealed({.type = FrameType::kSend, .length = tcp::kMaxMessageBytes + 1, .sequence = 1}),
      "longer than allowed");
}

TEST_F(TcpHostile, AnErrorFrameWithoutAnError) {
  expect_garbage(sealed({.type = FrameType::kError, .immediate = 0}), "error code");
  expect_garbage(sealed({.type = FrameType::kError, .immediate = 1000}), "error code");
}

TEST_F(TcpHostile, RangesOutsideTheRegion) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  expect_refused(write(0, kRegionBytes + 1), Code::kAccess);
  expect_refused(write(kRegionBytes, 1), Code::kAccess);
  expect_refused(write(kRegionBytes + 1, 1), Code::kAccess);
  expect_refused(write(0, kMax), Code::kAccess);
  expect_refused(write(8, kMax - 7), Code::kAccess);  // offset + length = 2⁶⁴
  expect_refused(write(kMax, 2), Code::kAccess);      // … = 2⁶⁴ + 1
  expect_refused(write(kMax - 7, 8), Code::kAccess);  // … = 2⁶⁴ exactly, from the other side
}

TEST_F(TcpHostile, RegionsThatAreNotThere) {
  FrameHeader header = write(0, 8);
  header.incarnation ^= 1;
  expect_refused(header, Code::kStale);
  for (const std::uint64_t key : {std::uint64_t{0}, header.key + 1, header.key ^ (1UL << 40),
                                  std::numeric_limits<std::uint64_t>::max()}) {
    header = write(0, 8);
    header.key = key;
    expect_refused(header, Code::kStale);
  }
}

TEST_F(TcpHostile, ALengthShorterThanThePayload) {
  RawPeer raw = enter();
  // Receive a good write of no bytes, then the 64 bytes its header should have covered.
  FrameHeader header = write(0, 0);
  header.flags = 0;
  header.immediate = 0;
  const std::vector<std::byte> payload(64, std::byte{1});
  ASSERT_TRUE(raw.say(sealed(header)) && raw.say(payload));
  expect_end(Code::kProtocol, "magic");
}

TEST_F(TcpHostile, ALengthLongerThanThePayload) {
  RawPeer raw = enter();
  ASSERT_TRUE(raw.say(sealed(write(0, 64))) && raw.say(std::vector<std::byte>(63)));
  raw.finish();
  expect_end(Code::kConnectionLost, "in the middle of a frame");
}

TEST_F(TcpHostile, TruncationAtEveryByteOfAHeader) {
  const FrameHeader header = sealed(write(0, 8));
  for (std::size_t length = 0; length < tcp::kHeaderBytes; ++length) {
    RawPeer raw = enter();
    ASSERT_TRUE(length == 0 || raw.say(bytes_of(header).first(length)));
    raw.finish();
    expect_end(Code::kConnectionLost,
               length == 0 ? "the peer closed the connection" : "in the middle of a frame");
  }
}

TEST_F(TcpHostile, AResetInsteadOfAnEnd) {
  RawPeer raw = enter();
  const linger at_once{1, 0};
  ASSERT_EQ(::setsockopt(raw.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
  raw.hang_up();
  expect_end(Code::kConnectionLost, "receive");
  EXPECT_EQ(victim_->status().system_error(), ECONNRESET);
}

TEST_F(TcpHostile, MoreReadsThanAnnounced) {
  RawPeer raw = enter();  // announced 16
  FrameHeader header = write(0, kRegionBytes);
  header.type = FrameType::kReadRequest;
  header.flags = 0;
  header.immediate = 0;
  // Receive requests in one piece, so that no response can have left in between.
  std::vector<FrameHeader> requests;
  for (std::uint64_t i = 1; i <= 17; ++i) {
    header.sequence = i;
    requests.push_back(sealed(header));
  }
  ASSERT_TRUE(raw.say(std::as_bytes(std::span(requests))));
  expect_end(Code::kProtocol, "more reads");
}

TEST_F(TcpHostile, AnErrorFrameEndsTheEndpointWithItsCode) {
  RawPeer raw = enter();
  const FrameHeader header{.type = FrameType::kError,
                           .sequence = 1,
                           .immediate = static_cast<std::uint32_t>(Code::kAccess)};
  ASSERT_TRUE(raw.say(sealed(header)));
  expect_end(Code::kAccess, "refused by the peer");
}

TEST_F(TcpHostile, WhatFollowsAViolationIsDrainedSoThatTheAnswerArrives) {
  RawPeer raw = enter();
  // Receive a bad write with megabytes behind it. Expect the answer, not a reset.
  std::vector<std::byte> flood(std::size_t{4} << 20);
  FrameHeader header = sealed(write(0, flood.size()));
  ASSERT_TRUE(raw.say(header));
  std::size_t sent = 0;
  ASSERT_TRUE(eventually([&] {
    good_.b.poll();
    const ssize_t now =
        ::send(raw.fd(), flood.data(), flood.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (now > 0) sent += static_cast<std::size_t>(now);
    return sent == flood.size();
  }));
  expect_end(Code::kAccess, "refused");
  expect_told(raw, Code::kAccess, 1);
}

// Not hostile, only slow: valid traffic in single bytes.
TEST_F(TcpHostile, OneByteAtATimeIsFine) {
  RawPeer raw = enter();
  const auto dribble = [&](std::span<const std::byte> bytes) {
    for (const std::byte& byte : bytes) {
      ASSERT_TRUE(raw.say({&byte, 1}));
      good_.b.poll();
    }
  };
  dribble(bytes_of(sealed(write(10, 3))));
  dribble(std::vector<std::byte>(3));  // zeros: TearDown looks for any other byte
  dribble(bytes_of(sealed({.type = FrameType::kSend, .length = 2, .sequence = 2})));
  dribble(std::vector<std::byte>(2, std::byte{5}));
  dribble(bytes_of(sealed({.type = FrameType::kAck})));
  const auto immediate = good_.b.wait_for(Event::kImmediate);
  ASSERT_TRUE(immediate.has_value());
  EXPECT_EQ(immediate->immediate, 3U);
  const auto message = good_.b.wait_for(Event::kMessage);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->length, 2U);
  // Expect both acknowledged, without another frame having to go that way.
  std::uint64_t acked = 0;
  while (acked < 2) {
    const auto ack = raw.hear(drive_);
    ASSERT_TRUE(ack.has_value());
    ASSERT_EQ(ack->type, FrameType::kAck);
    acked = ack->ack;
  }
  raw.finish();
  expect_end(Code::kConnectionLost, "the peer closed the connection");
}

}  // namespace
}  // namespace penstock

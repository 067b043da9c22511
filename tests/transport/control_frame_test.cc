// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "transport/api/control.h"
#include "transport/base/random.h"

namespace penstock::control {
namespace {

using Bytes = std::vector<std::byte>;

Bytes pattern(std::size_t size, std::uint64_t seed) {
  SeededRandom random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next() & 0xff);
  return bytes;
}

void append_frame(Bytes& stream, const Bytes& body) {
  const auto header = encode_frame_header(body.size());
  stream.insert(stream.end(), header.begin(), header.end());
  stream.insert(stream.end(), body.begin(), body.end());
}

// Every whole frame in `input`; fails the test on an error.
void feed(FrameParser& parser, std::span<const std::byte> input, std::vector<Bytes>& frames) {
  std::span<const std::byte> frame;
  while (true) {
    auto more = parser.next(input, frame);
    ASSERT_TRUE(more.ok()) << more.status().to_string();
    if (!*more) break;
    frames.emplace_back(frame.begin(), frame.end());
  }
  EXPECT_TRUE(input.empty());
}

Status feed_header(std::size_t length, std::uint16_t magic, std::uint16_t flags) {
  FrameHeader header = encode_frame_header(length, flags);
  header[4] = static_cast<std::byte>(magic & 0xff);
  header[5] = static_cast<std::byte>(magic >> 8);
  FrameParser parser;
  std::span<const std::byte> input(header), frame;
  return parser.next(input, frame).status();
}

TEST(ControlFrame, SurvivesEverySplitOfAStream) {
  Bytes stream;
  const std::vector<Bytes> sent = {pattern(0, 1),   pattern(1, 2), pattern(7, 3),
                                   pattern(300, 4), pattern(0, 5), pattern(41, 6)};
  for (const auto& body : sent) append_frame(stream, body);
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    FrameParser parser;
    std::vector<Bytes> got;
    for (std::size_t at = 0; at < stream.size(); at += piece)
      feed(parser, std::span(stream).subspan(at, std::min(piece, stream.size() - at)), got);
    EXPECT_EQ(got, sent) << "pieces of " << piece;
    EXPECT_TRUE(parser.at_boundary());
  }
}

TEST(ControlFrame, DoesNotCopyAFrameThatIsWhole) {
  Bytes stream;
  append_frame(stream, pattern(100, 1));
  FrameParser parser;
  std::span<const std::byte> input(stream), frame;
  ASSERT_TRUE(parser.next(input, frame).value());
  EXPECT_EQ(frame.data(), stream.data() + kFrameHeaderBytes);
  EXPECT_EQ(parser.buffered_capacity(), 0U);
}

TEST(ControlFrame, KeepsTheLargestFrame) {
  Bytes stream;
  const Bytes body = pattern(kMaxControlFrameBytes, 1);
  append_frame(stream, body);
  append_frame(stream, pattern(3, 2));
  FrameParser parser;
  std::vector<Bytes> got;
  constexpr std::size_t kPiece = 16'384;  // one TLS record
  for (std::size_t at = 0; at < stream.size(); at += kPiece)
    feed(parser, std::span(stream).subspan(at, std::min(kPiece, stream.size() - at)), got);
  ASSERT_EQ(got.size(), 2U);
  EXPECT_TRUE(got[0] == body);
  // Expect: the memory of the large frame is given back with the next one.
  EXPECT_LE(parser.buffered_capacity(), std::size_t{64} << 10);
}

TEST(ControlFrame, HoldsNoMoreThanTwiceWhatArrived) {
  // Receive a header that claims the largest frame, then little of it.
  const auto header = encode_frame_header(kMaxControlFrameBytes);
  const Bytes part = pattern(1000, 1);
  FrameParser parser;
  std::vector<Bytes> got;
  feed(parser, header, got);
  EXPECT_EQ(parser.buffered_capacity(), 0U);
  for (std::size_t count = 1; count <= 100; ++count) {
    feed(parser, part, got);
    EXPECT_LE(parser.buffered_capacity(), 2 * count * part.size());
  }
  EXPECT_TRUE(got.empty());
  EXPECT_FALSE(parser.at_boundary());
}

TEST(ControlFrame, RefusesALengthOverTheLimit) {
  EXPECT_TRUE(feed_header(kMaxControlFrameBytes, kFrameMagic, 0).ok());
  const Status status = feed_header(kMaxControlFrameBytes + 1, kFrameMagic, 0);
  EXPECT_EQ(status.code(), Code::kProtocol);
  EXPECT_THAT(status.what(), testing::HasSubstr("16777217"));
  EXPECT_EQ(feed_header(0xffffffff, kFrameMagic, 0).code(), Code::kProtocol);
}

TEST(ControlFrame, RefusesAForeignMagicAndUnknownFlags) {
  EXPECT_EQ(feed_header(4, 0x1603, 0).code(), Code::kProtocol);
  EXPECT_EQ(feed_header(4, kFrameMagic, 1).code(), Code::kProtocol);
}

TEST(ControlFrame, NamesBothVersionsWhenTheyDiffer) {
  const Status status = feed_header(4, 0x5002, 0);
  EXPECT_EQ(status.code(), Code::kProtocol);
  EXPECT_THAT(status.what(), testing::HasSubstr("version 2, this side has 1"));
}

TEST(ControlFrame, StaysRefusedAfterAnError) {
  FrameParser parser;
  const Bytes garbage(8, std::byte{0xff});
  Bytes good;
  append_frame(good, pattern(4, 1));
  std::span<const std::byte> input(garbage), frame;
  EXPECT_FALSE(parser.next(input, frame).ok());
  input = good;
  EXPECT_EQ(parser.next(input, frame).status().code(), Code::kProtocol);
}

}  // namespace
}  // namespace penstock::control

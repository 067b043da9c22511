// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What goes over a data connection: frames of one fixed header and, for some types, a payload.
// This file knows layout and what a single header may say; who may write where is region_table.h,
// the order of frames is receiver.h. Pure functions, any thread.
//
//        0       1       2       3       4       5       6       7
//    +-------+-------+-------+-------+-------+-------+-------+-------+
//  0 |            magic              |version| type  |     flags     |
//  8 |          incarnation  of the owner of the target region       |
// 16 |          region key                                           |
// 24 |          offset       into the region, bytes                  |
// 32 |          length       bytes                                   |
// 40 |          sequence     of this post, from 1 on each connection |
// 48 |          ack          every sequence ≤ ack is applied here    |
// 56 |          immediate            |  CRC-32C of bytes 0 … 59      |
//    +-------+-------+-------+-------+-------+-------+-------+-------+
// Little-endian. `length` bytes of payload follow a hello, a write, a send and a read response.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/api/types.h"

namespace penstock::tcp {

enum class FrameType : std::uint8_t {
  kHello = 1,    // connector → acceptor: payload = token, incarnation = own, immediate = depth
  kWelcome = 2,  // acceptor → connector: token accepted; no payload, the rest likewise
  kWrite = 3,    // payload lands in the region; counted by `sequence`
  kReadRequest = 4,   // asks for [offset, offset + length) of the region; counted
  kReadResponse = 5,  // the bytes asked for by the read request `sequence`
  kSend = 6,          // payload is a message; counted
  kAck = 7,           // only the `ack` field; every other frame carries one too
  kError = 8,         // the post `sequence` (0: none) was refused; immediate = Code; the last frame
  kClose = 9,         // the sender closed; the last frame
};

inline constexpr std::uint32_t kFrameMagic = 0x4b4e5350;  // "PSNK" in memory
inline constexpr std::uint8_t kFrameVersion = 1;
inline constexpr std::uint16_t kFlagImmediate = 1;  // kWrite: surfaces `immediate` at the peer
// Longest kSend. Small: a message is copied once into the receiving endpoint's buffer.
inline constexpr std::uint32_t kMaxMessageBytes = 20U << 10;
// Most posts one side may have outstanding: what the peer sizes its queue of read responses for.
inline constexpr std::uint32_t kMaxSendDepth = 1U << 16;

struct FrameHeader {
  std::uint32_t magic = kFrameMagic;
  std::uint8_t version = kFrameVersion;
  FrameType type{};
  std::uint16_t flags = 0;
  Incarnation incarnation = 0;
  std::uint64_t key = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t sequence = 0;
  std::uint64_t ack = 0;
  std::uint32_t immediate = 0;
  std::uint32_t checksum = 0;
};

inline constexpr std::size_t kHeaderBytes = 64;
static_assert(std::endian::native == std::endian::little, "headers go on the wire as they lie");
static_assert(sizeof(FrameHeader) == kHeaderBytes);
static_assert(offsetof(FrameHeader, type) == 5);
static_assert(offsetof(FrameHeader, flags) == 6);
static_assert(offsetof(FrameHeader, incarnation) == 8);
static_assert(offsetof(FrameHeader, key) == 16);
static_assert(offsetof(FrameHeader, offset) == 24);
static_assert(offsetof(FrameHeader, length) == 32);
static_assert(offsetof(FrameHeader, sequence) == 40);
static_assert(offsetof(FrameHeader, ack) == 48);
static_assert(offsetof(FrameHeader, immediate) == 56);
static_assert(offsetof(FrameHeader, checksum) == 60);

// The whole of a hello: what a connection may send before it is authenticated.
inline constexpr std::size_t kHelloBytes = kHeaderBytes + sizeof(Token);

// Stamps the checksum: the last thing before a header is sent.
void seal(FrameHeader& header);

// Reads a header from exactly kHeaderBytes hostile bytes. Returns null and sets `header` when it is
// well formed (magic, version, checksum, type, and every field the type does not use is zero), else
// what is wrong with it, for Code::kProtocol.
const char* parse_header(std::span<const std::byte> bytes, FrameHeader& header);

// Whether `length` bytes of payload follow a header of this type.
bool has_payload(FrameType type);
// Whether frames of this type are numbered by `sequence` and acknowledged.
bool is_counted(FrameType type);

}  // namespace penstock::tcp

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What travels: frames as headers of UCP active messages, greetings on the rendezvous socket. Both
// are 64 bytes in the byte order of the hosts (the greeting's magic number tells a foreign one).

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "transport/api/types.h"

namespace penstock::ucx {

inline constexpr unsigned kMessageId = 1;  // of our active messages
inline constexpr std::uint32_t kMaxMessageBytes = 4096;
inline constexpr std::uint32_t kMaxSendDepth = 1U << 16;
// A worker with every transport of a big host has some kilobytes.
inline constexpr std::uint32_t kMaxAddressBytes = 16 << 10;

enum class FrameType : std::uint8_t {
  kWrite = 1,     // payload for (key, offset); with an immediate if flagged
  kReadRequest,   // asks for (key, offset, length)
  kReadResponse,  // payload; `sequence` is the request's
  kSend,          // payload is a message
  kAck,           // nothing but `ack`
};
inline constexpr std::uint8_t kFlagImmediate = 1;

// kWrite, kReadRequest and kSend are counted: their sequence numbers are those of the posts,
// from 1.
struct FrameHeader {
  FrameType type{};
  std::uint8_t flags = 0;
  std::uint16_t reserved = 0;
  std::uint32_t immediate = 0;
  std::uint64_t to = 0;  // the receiving endpoint's key
  std::uint64_t sequence = 0;
  std::uint64_t ack = 0;  // every counted frame up to this one was applied
  std::uint64_t key = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // of the payload, or of the bytes asked for
  Incarnation incarnation = 0;
};
static_assert(sizeof(FrameHeader) == 64 && std::is_trivially_copyable_v<FrameHeader>);

inline constexpr std::uint32_t kMagic = 0x50535855;
inline constexpr std::uint16_t kVersion = 1;

//  connector                        acceptor
//      kHello, token, address  ─▶             checks the token
//                              ◀─  kWelcome, address
//      kPair, index            ─▶             makes the line that meets the connector's
//                              ◀─  kReady
//      ⋯ frames over UCX, until one side says kClose or kError, or hangs up ⋯
enum class GreetingType : std::uint16_t {
  kHello = 1,
  kWelcome,
  kPair,
  kReady,
  kClose,
  kError,
};

// The first eight bytes mean the same in every version.
struct Greeting {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  GreetingType type{};
  Token token{};                    // kHello
  std::uint64_t endpoint = 0;       // kHello, kWelcome: the key that frames to the sender carry
  std::uint64_t worker = 0;         // kHello, kWelcome: Worker::id()
  std::uint32_t depth = 0;          // kHello, kWelcome: the sender's send_depth
  std::uint32_t index = 0;          // kPair
  std::uint32_t address_bytes = 0;  // kHello, kWelcome: of the worker's address, which follows
  std::uint32_t code = 0;           // kError
  std::uint64_t ack = 0;            // kClose, kError: the last frame that was applied
};
static_assert(sizeof(Greeting) == 64 && std::is_trivially_copyable_v<Greeting>);

}  // namespace penstock::ucx

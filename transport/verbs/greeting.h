// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What two devices tell each other while rdma_cm connects them: its private data. RDMA_PS_TCP
// leaves 56 bytes to whoever connects. Little endian:
//
//   0 magic 4   4 version 1   5 domain 1   6 flags 1   7 rail 1   8 token 16   24 incarnation 8
//   32 ring address 8   40 ring key 4   44 message bytes 4   48 window 2
//
// The acceptor answers with the same without the token, or refuses with {magic, version, code,
// text}.

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "transport/api/types.h"

namespace penstock::verbs {

struct Greeting {
  static constexpr std::uint8_t kVersion = 2;
  static constexpr std::size_t kBytes = 50;
  static_assert(kBytes <= 56, "rdma_connect() takes no more");

  std::uint8_t rail = 0;    // of both devices
  std::uint8_t domain = 0;  // on it: 0 joins the endpoints' scopes, 1 joins kAnyScope
  bool first = false;       // of the connection: its rail is the connection's home
  bool scoped = false;      // the sender's endpoint has a scope of its own
  Token token{};
  Incarnation incarnation = 0;
  std::uint64_t ring_address = 0;  // where messages to the sender go: `window` slots of
  std::uint32_t ring_key = 0;      // `message_bytes` each
  std::uint32_t message_bytes = 0;
  std::uint16_t window = 0;  // receives the sender keeps for this path; at least 1
};

std::array<std::byte, Greeting::kBytes> encode(const Greeting& greeting);
// kProtocol for what is no greeting, kMismatch for another version's.
Result<Greeting> decode_greeting(std::span<const std::byte> bytes);

inline constexpr std::size_t kRefusalBytes = 120;
std::array<std::byte, kRefusalBytes> encode_refusal(const Status& reason);
// The peer's reason, or a plain one when it gave none we understand.
Status decode_refusal(std::span<const std::byte> bytes);

}  // namespace penstock::verbs

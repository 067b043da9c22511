// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The plain values of the transport contract. Start with device.h.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "transport/base/status.h"

namespace penstock {

inline constexpr std::size_t kMaxRails = 4;

enum class ProviderKind : std::uint8_t { kLoopback = 1, kTcp = 2 };
std::string_view provider_name(ProviderKind kind);

enum class MemoryKind : std::uint8_t { kHost };

// What the peer may do with a region. Local access is always allowed.
enum class Access : std::uint8_t {
  kLocal = 0,
  kRemoteWrite = 1,
  kRemoteRead = 2,
  kRemoteReadWrite = 3
};
constexpr bool allows_write(Access a) { return (static_cast<unsigned>(a) & 1U) != 0; }
constexpr bool allows_read(Access a) { return (static_cast<unsigned>(a) & 2U) != 0; }

// The protection domain of one peer. Regions registered under a scope are reachable only through
// endpoints of that scope; regions under kAnyScope through every endpoint of the device.
using PeerScope = std::uint32_t;
inline constexpr PeerScope kAnyScope = 0;

// Random 64-bit identity of one life of one process; never 0.
using Incarnation = std::uint64_t;

// Bytes there: a value, sent to the peer over the control connection. Self-contained and versioned;
// invalid once the owner deregistered the region or was born again. Offsets into it count from 0.
struct RemoteRegion {
  static constexpr std::uint8_t kVersion = 1;
  ProviderKind provider{};
  std::uint8_t version = kVersion;
  std::uint8_t rails = 1;
  Incarnation incarnation = 0;
  std::uint64_t base = 0;    // provider's own meaning (a virtual address for verbs)
  std::uint64_t length = 0;  // bytes
  std::array<std::uint64_t, kMaxRails> key{};
  bool operator==(const RemoteRegion&) const = default;
};

// A secret for one connection, handed out by the accepting side over the control connection.
using Token = std::array<std::uint8_t, 16>;
Token random_token();

enum class Opcode : std::uint8_t {
  kWrite,  // local bytes → remote region, optionally with an immediate
  kRead,   // remote region → local bytes
  kSend,   // local bytes → a message at the peer
};

class MemoryRegion;

// One post. Plain data; the provider copies what it needs before post() returns, but the local
// bytes stay lent until the completion.
struct WorkRequest {
  Opcode opcode = Opcode::kWrite;
  bool has_immediate = false;  // kWrite only
  std::uint32_t immediate = 0;
  std::uint64_t tag = 0;  // comes back in the completion: a slot index, never a pointer
  const MemoryRegion* local = nullptr;  // may be null when length is 0
  std::uint64_t local_offset = 0;
  std::uint64_t length = 0;              // bytes; 0 is allowed (an immediate alone)
  const RemoteRegion* remote = nullptr;  // kWrite, kRead; may be null when length is 0
  std::uint64_t remote_offset = 0;
};

enum class Event : std::uint8_t {
  kWriteDone,     // the write is applied at the peer (or failed: see code)
  kReadDone,      // the bytes are here (or failed)
  kSendDone,      // the peer's provider has the message (or failed)
  kImmediate,     // a peer's write with immediate has landed, and all its earlier writes
  kMessage,       // a peer's send arrived; `message` holds it
  kConnected,     // the endpoint can be posted on
  kDisconnected,  // the last event of an endpoint; Endpoint::status() says why
};

struct Completion {
  Event event{};
  Code code = Code::kOk;               // for the …Done events and kDisconnected
  std::uint32_t endpoint = 0;          // EndpointOptions::id
  std::uint32_t immediate = 0;         // kImmediate
  std::uint64_t length = 0;            // bytes moved
  std::uint64_t tag = 0;               // the …Done events
  std::span<const std::byte> message;  // kMessage; valid until the next poll() of this queue
};

}  // namespace penstock

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

// kAuto is a set of the others: it chooses one for each peer.
enum class ProviderKind : std::uint8_t {
  kAuto = 0,
  kLoopback = 1,
  kTcp = 2,
  kShm = 3,
  kVerbs = 4,
  kUcx = 5
};
std::string_view provider_name(ProviderKind kind);
inline constexpr std::uint8_t provider_bit(ProviderKind kind) {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
}

// kCuda: device memory of one CUDA allocation. Host memory that CUDA pinned is kHost.
enum class MemoryKind : std::uint8_t { kHost, kCuda };

// What the peer may do with a region, as flags. Local access is always allowed. kMap: a peer on the
// same host may read the bytes in place, where the provider maps memory; others ignore it.
enum class Access : std::uint8_t {
  kLocal = 0,
  kRemoteWrite = 1,
  kRemoteRead = 2,
  kRemoteReadWrite = 3,
  kMap = 4,
};
constexpr Access operator|(Access a, Access b) {
  return static_cast<Access>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool allows_write(Access a) { return (static_cast<unsigned>(a) & 1U) != 0; }
constexpr bool allows_read(Access a) { return (static_cast<unsigned>(a) & 2U) != 0; }
constexpr bool allows_map(Access a) { return (static_cast<unsigned>(a) & 4U) != 0; }
constexpr bool covers(Access has, Access wanted) {
  return (static_cast<unsigned>(has) & static_cast<unsigned>(wanted)) ==
         static_cast<unsigned>(wanted);
}

// The protection domain of one peer. Regions registered under a scope are reachable only through
// endpoints of that scope; regions under kAnyScope through every endpoint of the device.
using PeerScope = std::uint32_t;
inline constexpr PeerScope kAnyScope = 0;

// Random 64-bit identity of one life of one process; never 0.
using Incarnation = std::uint64_t;

// Where a provider keeps its key in RemoteRegion::key: verbs one for each rail, the others one.
constexpr std::size_t key_slot(ProviderKind kind, std::size_t rail = 0) {
  return kind == ProviderKind::kVerbs ? rail : kMaxRails - 1 + static_cast<std::size_t>(kind);
}
inline constexpr std::size_t kRegionKeys = key_slot(ProviderKind::kUcx) + 1;

// Bytes there: a value, sent to the peer over the control connection. Self-contained and versioned;
// invalid once the owner deregistered the region or was born again. Offsets into it count from 0.
// One description serves every provider its owner registered the bytes with.
struct RemoteRegion {
  static constexpr std::uint8_t kVersion = 2;
  std::uint8_t providers = 0;  // provider_bit()s
  std::uint8_t maps = 0;       // of those, the ones that a peer on this host may map it by
  std::uint8_t version = kVersion;
  std::uint8_t rails = 1;
  Incarnation incarnation = 0;
  std::uint64_t base = 0;    // the owner's virtual address (verbs), else 0
  std::uint64_t length = 0;  // bytes
  std::array<std::uint64_t, kRegionKeys> key{};
  bool operator==(const RemoteRegion&) const = default;
  bool reachable_by(ProviderKind kind) const { return (providers & provider_bit(kind)) != 0; }
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
  // kWrite only: the peer may see it, whole and with its immediate last, before what was posted
  // earlier and after what is posted later. A device with several rails puts it on any of them.
  bool unordered = false;
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
  kImmediate,     // a peer's write with immediate has landed, and its earlier ordered writes if it
                  // is ordered
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

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What goes between nodes: an envelope, and keys, values and lengths, or a body. Between a worker
// and a server it travels as an open message, in issue order; else as a note by the scheduler.

#include <string>
#include <vector>

#include "engine/protocol/open_message.h"

namespace penstock::pslite {

inline constexpr int kSchedulerId = 1;
inline constexpr int kServerGroup = 2, kWorkerGroup = 4;
constexpr int server_id(Rank rank) { return static_cast<int>(rank) * 2 + 8; }
constexpr int worker_id(Rank rank) { return static_cast<int>(rank) * 2 + 9; }
constexpr int id_of(Role role, Rank rank) {
  if (role == Role::kScheduler) return kSchedulerId;
  return role == Role::kServer ? server_id(rank) : worker_id(rank);
}
constexpr Rank rank_of(int id) { return id < 8 ? 0 : static_cast<Rank>(id - 8) / 2; }
constexpr Role role_of(int id) {
  if (id < 8) return Role::kScheduler;
  return id % 2 == 0 ? Role::kServer : Role::kWorker;
}

enum class Kind : std::uint8_t {
  kRequest = 1,
  kResponse,
  kFailure,  // instead of a response; its body is the sentence
  kAck,      // of sequenced messages
  kHello,    // notes from here on; to the scheduler: a node runs
  kBarrier,  // head: groups; customer: whose; timestamp: ticket; body: ids that arrive
  kRelease,  // back; timestamp: ticket
  kGone,     // from the scheduler; head: id that is lost; body: why
};
inline constexpr Kind kLastKind = Kind::kGone;

enum Flags : std::uint8_t { kPush = 1, kPull = 2, kSimple = 4, kGap = 8 };

struct Envelope {
  std::uint32_t version = 0;
  Kind kind{};
  std::uint8_t flags = 0;
  std::uint16_t unused = 0;
  std::int32_t app = 0, customer = 0, timestamp = 0, head = 0;
  std::uint64_t keys = 0, values = 0;  // counts
  std::uint64_t sequence = 0;          // 0: not to be acknowledged
  std::uint64_t ack = 0;               // all up to here came
  std::uint64_t first_key = 0;         // of a data request
};
static_assert(sizeof(Envelope) == 64);

inline constexpr std::uint32_t kVersion = 0x50530001;
enum Position : std::size_t { kKeys, kVals, kLens, kPositions };  // of parts; a body is the first

struct Message {
  Envelope envelope;
  int peer = 0;  // id of the sender, or of the receiver
  std::int32_t priority = 0;
  std::vector<MessagePart> parts;

  bool simple() const { return (envelope.flags & kSimple) != 0; }
  std::string_view body() const {
    if (parts.empty()) return {};
    return {reinterpret_cast<const char*>(parts[0].bytes.data()), parts[0].bytes.size()};
  }
};

Message make(Kind kind, int peer);
// A part that owns a copy.
MessagePart own(std::string_view bytes);

std::vector<std::byte> encode(const Envelope& envelope);
// False for bytes that no node of this version sends.
bool decode(std::span<const std::byte> bytes, Envelope& envelope);

std::vector<std::uint8_t> encode_note(const Message& message);
bool decode_note(std::span<const std::uint8_t> bytes, Message& message);

}  // namespace penstock::pslite

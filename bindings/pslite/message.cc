// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/message.h"

#include <array>
#include <cstring>

namespace penstock::pslite {

Message make(Kind kind, int peer) {
  Message message;
  message.envelope.version = kVersion;
  message.envelope.kind = kind;
  message.peer = peer;
  return message;
}

MessagePart own(std::string_view bytes) {
  const auto memory = std::make_shared<std::vector<std::byte>>(bytes.size());
  if (!bytes.empty()) std::memcpy(memory->data(), bytes.data(), bytes.size());
  return {std::span(*memory), memory};
}

std::vector<std::byte> encode(const Envelope& envelope) {
  std::vector<std::byte> bytes(sizeof envelope);
  std::memcpy(bytes.data(), &envelope, sizeof envelope);
  return bytes;
}

bool decode(std::span<const std::byte> bytes, Envelope& envelope) {
  if (bytes.size() != sizeof envelope) return false;
  std::memcpy(&envelope, bytes.data(), sizeof envelope);
  const auto kind = static_cast<unsigned>(envelope.kind);
  return envelope.version == kVersion && kind >= static_cast<unsigned>(Kind::kRequest) &&
         kind <= static_cast<unsigned>(kLastKind);
}

// Behind the envelope: how many parts, the size of each in 64 bits, then their bytes.
std::vector<std::uint8_t> encode_note(const Message& message) {
  const std::uint64_t count = message.parts.size();
  std::vector<std::uint8_t> bytes;
  const auto append = [&bytes](const void* from, std::size_t size) {
    const auto* const first = static_cast<const std::uint8_t*>(from);
    bytes.insert(bytes.end(), first, first + size);
  };
  append(&message.envelope, sizeof message.envelope);
  append(&count, sizeof count);
  for (const MessagePart& part : message.parts) {
    const std::uint64_t size = part.bytes.size();
    append(&size, sizeof size);
  }
  for (const MessagePart& part : message.parts) append(part.bytes.data(), part.bytes.size());
  return bytes;
}

bool decode_note(std::span<const std::uint8_t> bytes, Message& message) {
  if (bytes.size() < sizeof(Envelope)) return false;
  if (!decode(std::as_bytes(bytes.first(sizeof(Envelope))), message.envelope)) return false;
  bytes = bytes.subspan(sizeof(Envelope));
  const auto take = [&bytes](std::uint64_t& number) {
    if (bytes.size() < sizeof number) return false;
    std::memcpy(&number, bytes.data(), sizeof number);
    bytes = bytes.subspan(sizeof number);
    return true;
  };
  std::uint64_t count = 0;
  if (!take(count) || count > kPositions) return false;
  std::array<std::uint64_t, kPositions> sizes{};
  for (std::size_t i = 0; i < count; ++i)
    if (!take(sizes[i])) return false;
  message.parts.clear();
  for (std::size_t i = 0; i < count; ++i) {
    if (sizes[i] > bytes.size()) return false;
    const auto part = bytes.first(static_cast<std::size_t>(sizes[i]));
    message.parts.push_back(own({reinterpret_cast<const char*>(part.data()), part.size()}));
    bytes = bytes.subspan(part.size());
  }
  return bytes.empty();
}

}  // namespace penstock::pslite

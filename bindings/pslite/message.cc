// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/message.h"

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

std::vector<std::uint8_t> encode_note(const Message& message) {
  const std::string_view body = message.body();
  std::vector<std::uint8_t> bytes(sizeof message.envelope + body.size());
  std::memcpy(bytes.data(), &message.envelope, sizeof message.envelope);
  if (!body.empty()) std::memcpy(bytes.data() + sizeof message.envelope, body.data(), body.size());
  return bytes;
}

bool decode_note(std::span<const std::uint8_t> bytes, Message& message) {
  if (bytes.size() < sizeof(Envelope)) return false;
  if (!decode(std::as_bytes(bytes.first(sizeof(Envelope))), message.envelope)) return false;
  const auto rest = bytes.subspan(sizeof(Envelope));
  message.parts = {own({reinterpret_cast<const char*>(rest.data()), rest.size()})};
  return true;
}

}  // namespace penstock::pslite

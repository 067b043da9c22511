// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/greeting.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace penstock::verbs {
namespace {

static_assert(std::endian::native == std::endian::little, "the layout is written as it lies");

constexpr std::uint32_t kMagic = 0x4b545350;  // "PSTK"
constexpr std::uint8_t kScoped = 1, kFirst = 2;
constexpr std::size_t kRefusalText = 6;

template <class T>
void put(std::span<std::byte> bytes, std::size_t at, const T& value) {
  std::memcpy(&bytes[at], &value, sizeof value);
}
template <class T>
T get(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, &bytes[at], sizeof value);
  return value;
}

}  // namespace

std::array<std::byte, Greeting::kBytes> encode(const Greeting& greeting) {
  std::array<std::byte, Greeting::kBytes> bytes{};
  put(bytes, 0, kMagic);
  put(bytes, 4, Greeting::kVersion);
  put(bytes, 5, greeting.domain);
  put(bytes, 6,
      static_cast<std::uint8_t>((greeting.scoped ? kScoped : 0) | (greeting.first ? kFirst : 0)));
  put(bytes, 7, greeting.rail);
  put(bytes, 8, greeting.token);
  put(bytes, 24, greeting.incarnation);
  put(bytes, 32, greeting.ring_address);
  put(bytes, 40, greeting.ring_key);
  put(bytes, 44, greeting.message_bytes);
  put(bytes, 48, greeting.window);
  return bytes;
}

Result<Greeting> decode_greeting(std::span<const std::byte> bytes) {
  if (bytes.size() < 5 || get<std::uint32_t>(bytes, 0) != kMagic)
    return Status(Code::kProtocol, "this is not another Penstock device's greeting");
  const auto version = get<std::uint8_t>(bytes, 4);
  if (version != Greeting::kVersion)
    return Status(Code::kMismatch, fmt::format("the peer's verbs transport speaks version {}, "
                                               "ours version {}",
                                               version, Greeting::kVersion))
        .with_hint("run the same release of Penstock on both ends");
  if (bytes.size() < Greeting::kBytes) return Status(Code::kProtocol, "the greeting is cut short");
  Greeting greeting;
  greeting.domain = get<std::uint8_t>(bytes, 5);
  greeting.scoped = (get<std::uint8_t>(bytes, 6) & kScoped) != 0;
  greeting.first = (get<std::uint8_t>(bytes, 6) & kFirst) != 0;
  greeting.rail = get<std::uint8_t>(bytes, 7);
  greeting.token = get<Token>(bytes, 8);
  greeting.incarnation = get<Incarnation>(bytes, 24);
  greeting.ring_address = get<std::uint64_t>(bytes, 32);
  greeting.ring_key = get<std::uint32_t>(bytes, 40);
  greeting.message_bytes = get<std::uint32_t>(bytes, 44);
  greeting.window = get<std::uint16_t>(bytes, 48);
  if (greeting.window == 0) return Status(Code::kProtocol, "the greeting offers no receive");
  if (greeting.rail >= kMaxRails || greeting.domain > 1)
    return Status(Code::kProtocol, "the greeting names no queue pair of a connection");
  return greeting;
}

std::array<std::byte, kRefusalBytes> encode_refusal(const Status& reason) {
  std::array<std::byte, kRefusalBytes> bytes{};
  put(bytes, 0, kMagic);
  put(bytes, 4, Greeting::kVersion);
  put(bytes, 5, reason.code());
  const std::string& text = reason.what();
  std::memcpy(&bytes[kRefusalText], text.data(),
              std::min(text.size(), kRefusalBytes - kRefusalText - 1));
  return bytes;
}

Status decode_refusal(std::span<const std::byte> bytes) {
  const Status plain(Code::kConnectionLost, "the peer refused the connection without a reason");
  if (bytes.size() < kRefusalBytes || get<std::uint32_t>(bytes, 0) != kMagic) return plain;
  const auto code = get<std::uint8_t>(bytes, 5);
  if (code == 0 || code > static_cast<std::uint8_t>(Code::kSystem)) return plain;
  std::string text;
  for (const std::byte each : bytes.subspan(kRefusalText, kRefusalBytes - kRefusalText)) {
    const char letter = static_cast<char>(each);
    if (letter == '\0') break;
    text += letter >= ' ' && letter <= '~' ? letter : '?';  // it goes into logs
  }
  return Status(static_cast<Code>(code), fmt::format("the peer refused the connection: {}", text));
}

}  // namespace penstock::verbs

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/pattern.h"

#include <algorithm>
#include <cstring>

#include "transport/base/random.h"

namespace penstock::test {
namespace {

std::uint64_t pattern_word(std::uint64_t seed, std::size_t position) {
  return SeededRandom::mix(seed * 0x9e3779b97f4a7c15U + position / 8);
}

}  // namespace

void fill_pattern(std::span<std::byte> bytes, std::uint64_t seed) {
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = pattern_word(seed, i);
    std::memcpy(&bytes[i], &word, std::min<std::size_t>(8, bytes.size() - i));
  }
}

bool has_pattern(std::span<const std::byte> bytes, std::uint64_t seed) {
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = pattern_word(seed, i);
    if (std::memcmp(&bytes[i], &word, std::min<std::size_t>(8, bytes.size() - i)) != 0)
      return false;
  }
  return true;
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace penstock::test

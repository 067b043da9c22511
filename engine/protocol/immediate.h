// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The 32 bits that travel with a slice.
//
//   31     28 27      24 23                     0
//  +---------+----------+------------------------+
//  |  kind   | round&15 |   slice index in lane  |
//  +---------+----------+------------------------+
//
// The endpoint names the two processes and the lane, so nothing else is needed. Four bits of the
// round are enough: a worker has at most two rounds of a slice outstanding (slots by parity).
//
// Slices keep no order among each other, and their writes are posted unordered. Within a slice each
// write waits for the one before it by itself: an answer follows the push of every worker, a
// worker's next push follows the answer. kMapped and kCopy may come late: what they say of a slice
// that has gone on, or of another key that has its index now, is answered with kCopy or ignored.

#include <cstdint>

#include "engine/protocol/limits.h"
#include "engine/protocol/types.h"

namespace penstock {

enum class SliceKind : std::uint8_t {
  kData = 0,     // worker → server: a gradient; server → worker: parameters
  kNothing = 1,  // worker → server: "nothing this round" (no bytes)
  kInPlace = 2,  // worker → server: a gradient, to be read where it is (no bytes)
  kMapped = 3,   // server → worker: the gradients of this slice's key can be pushed in place
  kCopy = 4,     // server → worker: this one cannot; copy it
  // worker → server: a gradient with a NaN or an infinity in it (no bytes). Every slice of the key
  // says so, wherever the value is, so that the whole tensor is treated alike.
  kNotFinite = 5,
  kRoundFailed = 6,  // server → worker: parameters, those from before: the round changed nothing
  kLanded = 15,      // either way: no slice, but a large open message; the low bits of its sequence
};

// What workers say of their part in a round.
constexpr bool is_push(SliceKind kind) {
  return kind <= SliceKind::kInPlace || kind == SliceKind::kNotFinite;
}

struct Immediate {
  SliceKind kind = SliceKind::kData;
  std::uint8_t round_low = 0;
  std::uint32_t slice = 0;
};

constexpr std::uint32_t encode_immediate(SliceKind kind, Round round, std::uint32_t slice) {
  return static_cast<std::uint32_t>(kind) << 28 | static_cast<std::uint32_t>(round & 15U) << 24 |
         (slice & (kMaxSlicesPerLane - 1));
}

constexpr Immediate decode_immediate(std::uint32_t bits) {
  return {static_cast<SliceKind>(bits >> 28), static_cast<std::uint8_t>(bits >> 24 & 15U),
          bits & (kMaxSlicesPerLane - 1)};
}

// The round nearest to `expected` whose low four bits are `low`: within −8 … +7.
constexpr Round expand_round(Round expected, std::uint8_t low) {
  const auto distance = static_cast<std::uint8_t>((low - expected) & 15U);
  if (distance < 8) return expected + distance;
  return expected >= 16U - distance ? expected - (16U - distance) : expected + distance;
}

}  // namespace penstock

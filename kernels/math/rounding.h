// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stochastic rounding of a float to bf16, spelled out in integer operations: up with a probability
// that is the distance from the lower neighbour, so that the mean of many roundings is the value
// itself and small changes of an average are not lost. The random bits are a hash of the seed, the
// update's number, the element and the plane, so every target, slicing and thread has the same.

#include <bit>
#include <cstdint>

#include "kernels/math/half.h"

namespace penstock {

// 32 bits for one element: planes 0 and 1 take half of them each, plane 2 has a word of its own. A
// Weyl sequence, mixed; as short as the mean over elements and over updates bears, since all of it
// is paid for every element. The multiplier is that of Wellons' lowbias32.
inline constexpr std::uint32_t kRoundingStep = 0x9e37'79b9, kRoundingFactor = 0x7feb'352d;
inline constexpr std::uint32_t kRoundingNextWord = 0x5851'f42d;

constexpr std::uint32_t rounding_word(std::uint32_t element, std::uint32_t key) {
  std::uint32_t x = element * kRoundingStep + key;
  x = (x ^ x >> 16) * kRoundingFactor;
  return x ^ x >> 16;
}

constexpr std::uint32_t rounding_bits(std::uint32_t element, std::uint32_t key,
                                      std::uint32_t plane) {
  const std::uint32_t word = rounding_word(element, key + plane / 2 * kRoundingNextWord);
  return plane % 2 == 0 ? word >> 16 : word & 0xffff;
}

// What bf16 has stays as it is, infinities too; a NaN becomes 7fc0; beyond the largest bf16 the
// upper neighbour is infinity. `bits`: 16 random ones.
constexpr std::uint16_t round_to_bf16(float value, std::uint32_t bits) {
  return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(canonical(value)) + bits) >> 16);
}

}  // namespace penstock

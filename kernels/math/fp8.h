// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One float to and from the 8-bit types of OCP's specification, spelled out in integer operations:
// the definition the vector targets must equal bit for bit. To nearest, ties to even; saturating:
// what is larger than the largest code becomes the largest code, infinities too. Every NaN becomes
// the code 7f.
//   e4m3: 1 sign, 4 exponent, 3 fraction bits, bias 7; largest 448; 7f and ff are NaN, no infinity
//   e5m2: 1 sign, 5 exponent, 2 fraction bits, bias 15; largest 57344; the upper half of fp16

#include "kernels/math/half.h"

namespace penstock {

// What the two types differ in.
struct Fp8Format {
  std::uint32_t fraction_bits;
  std::uint32_t bias;
  std::uint32_t largest;  // finite code
};
inline constexpr Fp8Format kE4M3 = {3, 7, 0x7e};
inline constexpr Fp8Format kE5M2 = {2, 15, 0x7b};

constexpr std::uint8_t float_to_fp8(float value, Fp8Format format) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fff'ffff;
  if (magnitude > 0x7f80'0000) return 0x7f;
  const std::uint32_t sign = (bits >> 24) & 0x80;
  const std::uint32_t drop = 23 - format.fraction_bits;
  std::uint32_t code = 0;
  if (magnitude < (128 - format.bias) << 23) {
    // Subnormal codes count units of 2^(1−bias−fraction_bits); adding 2²³ units puts that unit in
    // the float's last place, so the addition rounds to nearest even and its low bits are the code.
    const std::uint32_t unit = 127 + 1 - format.bias + drop;  // of 2²³ of them, as an exponent
    const auto big = std::bit_cast<float>(unit << 23);
    code = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + big) & 0xff;
  } else {
    const std::uint32_t odd = (magnitude >> drop) & 1;
    const std::uint32_t half = (1U << (drop - 1)) - 1;
    code = (magnitude - ((127 - format.bias) << 23) + half + odd) >> drop;
  }
  return static_cast<std::uint8_t>(sign | (code < format.largest ? code : format.largest));
}

constexpr std::uint8_t float_to_e4m3(float value) { return float_to_fp8(value, kE4M3); }
constexpr std::uint8_t float_to_e5m2(float value) { return float_to_fp8(value, kE5M2); }

// The fp16 value with the code's bits in place: 2⁻⁸ of the code's value for e4m3, the value itself
// for e5m2. Exact.
constexpr std::uint16_t e4m3_to_fp16_part(std::uint8_t code) {
  if ((code & 0x7f) == 0x7f) return 0x7e00;
  return static_cast<std::uint16_t>((code & 0x80) << 8 | (code & 0x7f) << 7);
}
constexpr std::uint16_t e5m2_to_fp16_part(std::uint8_t code) {
  return static_cast<std::uint16_t>(code << 8);
}

constexpr float e4m3_to_float(std::uint8_t code) {
  return fp16_to_float(e4m3_to_fp16_part(code)) * 256;
}
constexpr float e5m2_to_float(std::uint8_t code) { return fp16_to_float(e5m2_to_fp16_part(code)); }

}  // namespace penstock

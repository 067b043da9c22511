// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One float to and from the 16-bit types, spelled out in integer operations: the definition the
// vector targets must equal bit for bit. To nearest, ties to even; overflow gives ±inf; subnormals
// are exact; every NaN becomes the quiet NaN 7fc00000 / 7e00 / 7fc0.

#include <bit>
#include <cstdint>

namespace penstock {

inline constexpr std::uint32_t kQuietNan = 0x7fc0'0000;

constexpr float canonical(float value) {
  return value == value ? value : std::bit_cast<float>(kQuietNan);
}

constexpr float bf16_to_float(std::uint16_t code) {
  return canonical(std::bit_cast<float>(std::uint32_t{code} << 16));
}

constexpr std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(canonical(value));
  const std::uint32_t odd = (bits >> 16) & 1;  // a tie goes up only from an odd code
  return static_cast<std::uint16_t>((bits + 0x7fff + odd) >> 16);
}

constexpr float fp16_to_float(std::uint16_t code) {
  const std::uint32_t sign = std::uint32_t{code & 0x8000U} << 16;
  const std::uint32_t exponent = (code >> 10) & 31;
  const std::uint32_t fraction = code & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: fraction · 2⁻²⁴, exact in float
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) return canonical(std::bit_cast<float>(sign | 0x7f80'0000 | (fraction << 13)));
  return std::bit_cast<float>(sign | ((exponent + 127 - 15) << 23) | (fraction << 13));
}

constexpr std::uint16_t float_to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fff'ffff;
  if (magnitude > 0x7f80'0000) return 0x7e00;
  if (magnitude >= 0x477f'f000)  // 65520, halfway from the largest code to 65536
    return static_cast<std::uint16_t>(sign | 0x7c00);
  if (magnitude < 0x3880'0000) {
    // Below 2⁻¹⁴ codes count units of 2⁻²⁴; adding ½ puts that unit in the float's last place, so
    // the addition rounds to nearest even and its low bits are the code.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) & 0x7ff));
  }
  const std::uint32_t odd = (magnitude >> 13) & 1;
  const std::uint32_t rounded = magnitude - ((127U - 15U) << 23) + 0xfff + odd;
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

}  // namespace penstock

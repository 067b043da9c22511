// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The codecs element by element: the definition that the vector targets must equal bit for bit, and
// what they use themselves for the elements behind their last whole step. GPUs run the same.

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/codec/formats.h"
#include "kernels/math/device.h"
#include "kernels/math/fp8.h"

namespace penstock {

// What an element asks for after error feedback.
PENSTOCK_DEVICE inline float corrected(float residual, float gradient) {
  return canonical(residual + gradient);
}

// ---- 2bit, 1bit ---------------------------------------------------------------------------------

PENSTOCK_DEVICE inline float decode_two_bit(const std::uint8_t* encoded, std::size_t i,
                                            float threshold) {
  const std::uint32_t code = encoded[i / 4] >> (6 - 2 * (i % 4)) & 3U;
  return code == 3 ? threshold : code == 2 ? -threshold : 0.0F;
}

PENSTOCK_DEVICE inline float decode_one_bit(const std::uint8_t* encoded, std::size_t i) {
  return (encoded[i / 8] >> (7 - i % 8) & 1U) != 0 ? 1.0F : -1.0F;
}

PENSTOCK_DEVICE inline std::uint32_t two_bit_code(float r, float threshold) {
  return r >= threshold ? 3 : r <= -threshold ? 2 : 0;
}
PENSTOCK_DEVICE inline float two_bit_rest(float r, std::uint32_t code, float threshold) {
  return code == 3 ? r - threshold : code == 2 ? r + threshold : r;
}

// Elements begin … end; `begin` is a multiple of 8. Whole bytes are written.
PENSTOCK_DEVICE inline void encode_two_bit(float threshold, const float* gradient, float* residual,
                                           std::uint8_t* encoded, std::size_t begin,
                                           std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    if (i % 4 == 0) encoded[i / 4] = 0;
    const float r = corrected(residual[i], gradient[i]);
    const std::uint32_t code = two_bit_code(r, threshold);
    encoded[i / 4] = static_cast<std::uint8_t>(encoded[i / 4] | code << (6 - 2 * (i % 4)));
    residual[i] = two_bit_rest(r, code, threshold);
  }
}

PENSTOCK_DEVICE inline void encode_one_bit(float threshold, const float* gradient, float* residual,
                                           std::uint8_t* encoded, std::size_t begin,
                                           std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    if (i % 8 == 0) encoded[i / 8] = 0;
    const float r = corrected(residual[i], gradient[i]);
    const std::uint32_t code = r > threshold ? 1 : 0;
    encoded[i / 8] = static_cast<std::uint8_t>(encoded[i / 8] | code << (7 - i % 8));
    residual[i] = code == 1 ? r - 1 : r + 1;
  }
}

// ---- int8, fp8: codes with a scale a block ------------------------------------------------------

// A block's scale as it goes on the wire, and what its elements are multiplied by before rounding.
struct BlockScale {
  float scale;
  float inverse;  // 0: nothing is sent but the scale
};

// 2⁻¹⁰⁰: below it the inverse of a scale would not be finite.
inline constexpr std::uint32_t kSmallestBlock = 27U << 23;

// From the bits of the block's largest magnitude; those of an infinity or a NaN are larger than any
// number's. int8 divides the largest by 127 and keeps 17 bits of it; fp8 takes the power of two
// that brings the largest to at most the largest code, and 2¹¹⁹ at most, so that products with it
// stay finite. A code times its scale is then exact, so that it can be added with one rounding.
PENSTOCK_DEVICE inline BlockScale block_scale(CodecKind kind, std::uint32_t largest) {
  if (largest >= 0x7f80'0000) return {std::bit_cast<float>(kQuietNan), 0};
  if (largest < kSmallestBlock) return {0, 0};
  if (kind == CodecKind::kInt8) {
    const auto magnitude = std::bit_cast<float>(largest);
    const auto scale = std::bit_cast<std::uint32_t>(magnitude / 127) & ~0x7fU;
    return {std::bit_cast<float>(scale), 127 / magnitude};
  }
  // Both largest codes are 1.75 · 2ⁿ: a larger fraction carries into the exponent.
  const std::uint32_t top = kind == CodecKind::kFp8E4M3 ? 8 : 15;
  const std::uint32_t wanted = ((largest + 0x1f'ffff) >> 23) - top;
  const std::uint32_t exponent = wanted < 127 + 119 ? wanted : 127 + 119;
  return {std::bit_cast<float>(exponent << 23), std::bit_cast<float>((254 - exponent) << 23)};
}

// Decoding multiplies a part of the code's value, exact as a float, by the rest of it.
PENSTOCK_DEVICE inline float block_multiplier(CodecKind kind, float scale) {
  return kind == CodecKind::kFp8E4M3 ? scale * 256 : scale;
}

PENSTOCK_DEVICE inline float block_part(CodecKind kind, std::uint8_t code) {
  if (kind == CodecKind::kInt8) return static_cast<float>(static_cast<std::int8_t>(code));
  return fp16_to_float(kind == CodecKind::kFp8E4M3 ? e4m3_to_fp16_part(code)
                                                   : e5m2_to_fp16_part(code));
}

// `scaled` is within ±127 for int8, once rounded.
PENSTOCK_DEVICE inline std::uint8_t block_code(CodecKind kind, float scaled) {
  if (kind == CodecKind::kInt8)
    return static_cast<std::uint8_t>(static_cast<std::int8_t>(::nearbyintf(scaled)));
  constexpr Fp8Format e4m3 = kE4M3, e5m2 = kE5M2;  // GPUs have no address of a global constant
  return float_to_fp8(scaled, kind == CodecKind::kFp8E4M3 ? e4m3 : e5m2);
}

PENSTOCK_DEVICE inline float load_scale(const std::uint8_t* encoded, std::size_t block) {
  float scale = 0;
  std::memcpy(&scale, encoded + block * sizeof(scale), sizeof(scale));
  return scale;
}

PENSTOCK_DEVICE inline void store_scale(float scale, std::uint8_t* encoded, std::size_t block) {
  std::memcpy(encoded + block * sizeof(scale), &scale, sizeof(scale));
}

// An element as the two factors of its value, which is added as fma(part, multiplier, sum).
struct BlockElement {
  float part, multiplier;
};
PENSTOCK_DEVICE inline BlockElement block_element(const CodecSpec& spec,
                                                  const std::uint8_t* encoded, std::size_t count,
                                                  std::size_t i) {
  const float scale = load_scale(encoded, i / spec.block);
  const std::uint8_t code = encoded[codec_blocks(spec, count) * sizeof(float) + i];
  return {block_part(spec.kind, code), block_multiplier(spec.kind, scale)};
}

// What is left of `residual` once `code` is sent, for the elements begin … end of a block.
PENSTOCK_DEVICE inline void encode_block_codes(CodecKind kind, BlockScale scale, float* residual,
                                               std::uint8_t* codes, std::size_t begin,
                                               std::size_t end) {
  const float multiplier = block_multiplier(kind, scale.scale);
  for (std::size_t i = begin; i < end; ++i) {
    codes[i] = block_code(kind, residual[i] * scale.inverse);
    residual[i] -= block_part(kind, codes[i]) * multiplier;
  }
}

// A block of which only the scale says something: see CodecSpec.
PENSTOCK_DEVICE inline void encode_empty_block(BlockScale scale, float* residual,
                                               std::uint8_t* codes, std::size_t count) {
  std::memset(codes, 0, count);
  if (scale.scale != 0) std::memset(residual, 0, count * sizeof(float));
}

}  // namespace penstock

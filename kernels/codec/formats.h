// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What encoded gradients look like. Plain data: also compiled by nvcc.

#include <cstddef>
#include <cstdint>

namespace penstock {

// The values go on the wire; never renumber. Encoded bytes of a slice of n elements, little-endian,
// blocks counted from the slice's first element:
//   fp8_e4m3, fp8_e5m2   float32 scale[⌈n/block⌉], then a code a byte: code · scale
//   int8                 the same with codes −127 … 127
//   2bit                 element i in byte i/4, the first in the two top bits: 11 is +threshold,
//                        10 is −threshold, 0x is 0. MXNet's.
//   1bit                 element i in byte i/8, the first in the top bit: 1 is +1, 0 is −1.
//                        MXNet's; the magnitude is always 1, the threshold only says where 1
//                        begins.
//   topk                 uint32 index[k], ascending, then float32 value[k]; k = ⌈fraction·n⌉
// Bits behind the last element are 0.
enum class CodecKind : std::uint8_t {
  kNone = 0,
  kFp8E4M3 = 1,
  kFp8E5M2 = 2,
  kInt8 = 3,
  kTwoBit = 4,
  kOneBit = 5,
  kTopK = 6,
};
inline constexpr std::uint32_t kCodecKinds = 7;

// A block is at least a step of the vector loops.
inline constexpr std::uint32_t kMinCodecBlock = 64;
inline constexpr std::uint32_t kMaxCodecBlock = 4096;
// Indices of top-k take 32 bits.
inline constexpr std::size_t kMaxCodecCount = std::size_t{1} << 32;

// Plain data; travels with a tensor's declaration. Fields a kind does not use must still be valid.
//
// NaN and infinities. fp8 and int8: a block with one in it decodes to NaN throughout, and its
// residual starts again from 0. topk: they count as the largest and are sent as they are. 2bit and
// 1bit cannot say NaN: it compares as false, so it is sent as 0 (−1 by 1bit) and stays in the
// residual, as in MXNet; an infinity is sent as its sign, again and again.
// fp8 and int8: a block whose largest magnitude is below 2⁻¹⁰⁰ is sent as zeros and stays in the
// residual.
struct CodecSpec {
  CodecKind kind = CodecKind::kNone;
  float threshold = 0.5F;     // 2bit, 1bit
  std::uint32_t block = 256;  // elements that share a scale: fp8, int8; a power of two
  double fraction = 0.01;     // topk: of a slice's elements; at least one is sent

  friend bool operator==(const CodecSpec&, const CodecSpec&) = default;
};

// Blocks of a slice of `count` elements, with a scale each.
constexpr std::size_t codec_blocks(const CodecSpec& spec, std::size_t count) {
  return (count + spec.block - 1) / spec.block;
}

}  // namespace penstock

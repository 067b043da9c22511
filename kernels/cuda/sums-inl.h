// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The workers' gradients of a slice added up in rank order: eight neighbouring elements of an
// aligned slice at once, or one. The sum starts from the first gradient itself and is +0 without
// any. A source of gradients has
//   sum_eight(slice, begin, sum)   begin is a multiple of 8, and eight elements are there
//   sum_one(slice, i)

#include "kernels/codec/elements.h"
#include "kernels/cuda/elements-inl.h"
#include "kernels/cuda/step.h"

PENSTOCK_BEGIN_TARGET

// The slice that `block` works on: the last whose first block is not behind it.
template <class Slice>
PENSTOCK_DEVICE inline const Slice& find_slice(const Slice* slices, std::uint32_t count,
                                               std::uint32_t block) {
  std::uint32_t low = 0;
  for (std::uint32_t high = count; high - low > 1;) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (slices[middle].first_block <= block)
      low = middle;
    else
      high = middle;
  }
  return slices[low];
}

// Gradients of an element type.
template <class Type>
struct Plain {
  using Element = typename Type::Element;
  PENSTOCK_DEVICE static const Element* at(const SliceGradients& slice, std::uint32_t worker,
                                           std::uint64_t begin) {
    return static_cast<const Element*>(slice.gradients[worker]) + begin;
  }
  PENSTOCK_DEVICE static void sum_eight(const SliceGradients& slice, std::uint64_t begin,
                                        float (&sum)[kPerThread]) {
    if (slice.workers > 0) Type::load(at(slice, 0, begin), sum);
    for (std::uint32_t w = 1; w < slice.workers; ++w) {
      float next[kPerThread];
      Type::load(at(slice, w, begin), next);
      for (std::uint32_t i = 0; i < kPerThread; ++i) sum[i] = add(sum[i], next[i]);
    }
  }
  PENSTOCK_DEVICE static float sum_one(const SliceGradients& slice, std::uint64_t i) {
    float sum = 0;
    if (slice.workers > 0) sum = Type::decode(*at(slice, 0, i));
    for (std::uint32_t w = 1; w < slice.workers; ++w)
      sum = add(sum, Type::decode(*at(slice, w, i)));
    return sum;
  }
};

// Gradients of any codec but topk, decoded as codec/elements.h says. Eight elements are eight bytes
// behind the scales, which are a multiple of four; two bytes of 2bit; one of 1bit.
struct Encoded {
  PENSTOCK_DEVICE static const std::uint8_t* bytes(const SliceGradients& slice,
                                                   std::uint32_t worker) {
    return static_cast<const std::uint8_t*>(slice.gradients[worker]);
  }

  template <CodecKind kKind>
  PENSTOCK_DEVICE static float part(std::uint8_t code) {
    if constexpr (kKind == CodecKind::kInt8) return block_part(kKind, code);
    return from_fp16(kKind == CodecKind::kFp8E4M3 ? e4m3_to_fp16_part(code)
                                                  : e5m2_to_fp16_part(code));
  }
  template <CodecKind kKind>
  PENSTOCK_DEVICE static void sum_blocks(const SliceGradients& slice, std::uint64_t begin,
                                         float (&sum)[kPerThread]) {
    const std::uint64_t block = begin / slice.codec.block;
    const std::uint64_t codes = codec_blocks(slice.codec, slice.count) * sizeof(float) + begin;
    for (std::uint32_t w = 0; w < slice.workers; ++w) {
      const auto* const scales = reinterpret_cast<const Word*>(bytes(slice, w));
      const auto* const from = global(reinterpret_cast<const Word*>(bytes(slice, w) + codes));
      const float scale = std::bit_cast<float>(global(scales)[block].bits);
      const float multiplier = block_multiplier(kKind, scale);
      const Word word[2] = {from[0], from[1]};
      for (std::uint32_t i = 0; i < kPerThread; ++i) {
        const float value =
            part<kKind>(static_cast<std::uint8_t>(word[i / 4].bits >> (8 * (i % 4))));
        sum[i] = w == 0 ? mul(value, multiplier) : fma(value, multiplier, sum[i]);
      }
    }
  }
  template <CodecKind kKind>
  PENSTOCK_DEVICE static void sum_bits(const SliceGradients& slice, std::uint64_t begin,
                                       float (&sum)[kPerThread]) {
    constexpr std::uint32_t kBytes = kKind == CodecKind::kTwoBit ? 2 : 1;
    for (std::uint32_t w = 0; w < slice.workers; ++w) {
      const std::uint8_t* const from = global(bytes(slice, w)) + begin / 8 * kBytes;
      const std::uint8_t code[2] = {from[0], from[kBytes - 1]};
      for (std::uint32_t i = 0; i < kPerThread; ++i) {
        const float value = kKind == CodecKind::kTwoBit
                                ? decode_two_bit(code, i, slice.codec.threshold)
                                : decode_one_bit(code, i);
        sum[i] = w == 0 ? value : add(sum[i], value);
      }
    }
  }
  PENSTOCK_DEVICE static void sum_eight(const SliceGradients& slice, std::uint64_t begin,
                                        float (&sum)[kPerThread]) {
    switch (slice.codec.kind) {
      case CodecKind::kFp8E4M3:
        return sum_blocks<CodecKind::kFp8E4M3>(slice, begin, sum);
      case CodecKind::kFp8E5M2:
        return sum_blocks<CodecKind::kFp8E5M2>(slice, begin, sum);
      case CodecKind::kInt8:
        return sum_blocks<CodecKind::kInt8>(slice, begin, sum);
      case CodecKind::kTwoBit:
        return sum_bits<CodecKind::kTwoBit>(slice, begin, sum);
      case CodecKind::kOneBit:
        return sum_bits<CodecKind::kOneBit>(slice, begin, sum);
      case CodecKind::kNone:
      case CodecKind::kTopK:
        return;
    }
  }

  PENSTOCK_DEVICE static float sum_one(const SliceGradients& slice, std::uint64_t i) {
    float sum = 0;
    for (std::uint32_t w = 0; w < slice.workers; ++w) {
      if (slice.codec.kind == CodecKind::kTwoBit || slice.codec.kind == CodecKind::kOneBit) {
        const float value = slice.codec.kind == CodecKind::kTwoBit
                                ? decode_two_bit(bytes(slice, w), i, slice.codec.threshold)
                                : decode_one_bit(bytes(slice, w), i);
        sum = w == 0 ? value : add(sum, value);
      } else {
        const BlockElement e = block_element(slice.codec, bytes(slice, w), slice.count, i);
        sum = w == 0 ? mul(e.part, e.multiplier) : fma(e.part, e.multiplier, sum);
      }
    }
    return sum;
  }
};

// Calls `visit` with the source of gradients of this type.
template <class Visitor>
void with_gradients(GradientType type, const Visitor& visit) {
  switch (type) {
    case GradientType::kFloat32:
      return visit(Plain<Float32>());
    case GradientType::kFloat16:
      return visit(Plain<Float16>());
    case GradientType::kBfloat16:
      return visit(Plain<Bfloat16>());
    case GradientType::kEncoded:
      return visit(Encoded());
  }
}

PENSTOCK_END_TARGET

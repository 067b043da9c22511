// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Gradients encoded with error feedback; elements.h says what the codes are.

#if defined(PENSTOCK_KERNELS_CPU_CODEC_ENCODE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_CODEC_ENCODE_INL_H
#undef PENSTOCK_KERNELS_CPU_CODEC_ENCODE_INL_H
#else
#define PENSTOCK_KERNELS_CPU_CODEC_ENCODE_INL_H
#endif

#include "kernels/cpu/codec_decode-inl.h"

PENSTOCK_BEGIN_TARGET

HWY_INLINE Vector corrected_vector(const float* residual, const float* gradient) {
  return canonical(add(Float32::load(residual), Float32::load(gradient)));
}

// Four vectors of codes, each code at its two_bit_shift() of an otherwise empty word: ors the words
// of each vector together and stores them, kLanes/4 bytes a vector.
HWY_INLINE void store_two_bit(WordVector a, WordVector b, WordVector c, WordVector d,
                              std::uint8_t* to) {
  const Words words;
  const hn::Repartition<std::uint64_t, Words> pairs;
  const auto ab = hn::BitCast(
      pairs, hn::Or(hn::InterleaveLower(words, a, b), hn::InterleaveUpper(words, a, b)));
  const auto cd = hn::BitCast(
      pairs, hn::Or(hn::InterleaveLower(words, c, d), hn::InterleaveUpper(words, c, d)));
  // Every four lanes now hold one byte of a, b, c and d each.
  const auto abcd = hn::BitCast(
      words, hn::Or(hn::InterleaveLower(pairs, ab, cd), hn::InterleaveUpper(pairs, ab, cd)));
  alignas(64) std::uint32_t bytes[kLanes];
  hn::Store(abcd, words, bytes);
  for (std::size_t v = 0; v < 4; ++v) {
    std::uint32_t word = 0;
    for (std::size_t block = 0; block < kLanes / 4; ++block) word |= bytes[4 * block + v];
    std::memcpy(to + v * (kLanes / 4), &word, kLanes / 4);
  }
}

inline void encode_two_bit_steps(float threshold, const float* gradient, float* residual,
                                 std::uint8_t* encoded, std::size_t count) {
  std::uint32_t lanes[2][kPerWord];
  for (std::uint32_t e = 0; e < kPerWord; ++e) {
    lanes[0][e] = 2U << two_bit_shift(e);
    lanes[1][e] = 3U << two_bit_shift(e);
  }
  const Vector minus = hn::BitCast(Floats(), hn::LoadU(Words(), lanes[0]));
  const Vector plus = hn::BitCast(Floats(), hn::LoadU(Words(), lanes[1]));
  const Vector above = splat<Vector>(threshold), below = splat<Vector>(-threshold);
  const std::size_t whole = count / kStep * kStep;
  for (std::size_t at = 0; at < whole; at += kStep)
    for (std::size_t four = 0; four < kStepVectors; four += 4) {
      WordVector codes[4];
      for (std::size_t v = 0; v < 4; ++v) {
        const std::size_t i = at + (four + v) * kLanes;
        const Vector r = corrected_vector(residual + i, gradient + i);
        const auto positive = hn::Ge(r, above);
        const auto negative = hn::Le(r, below);
        const Vector sent = hn::IfThenElse(positive, above, hn::IfThenElseZero(negative, below));
        Float32::store(sub(r, sent), residual + i);
        codes[v] = hn::BitCast(Words(),
                               hn::IfThenElse(positive, plus, hn::IfThenElseZero(negative, minus)));
      }
      store_two_bit(codes[0], codes[1], codes[2], codes[3], encoded + (at + four * kLanes) / 4);
    }
  encode_two_bit(threshold, gradient, residual, encoded, whole, count);
}

// The bits of each byte in the opposite order.
HWY_INLINE std::uint64_t reversed_bits(std::uint64_t bytes) {
  bytes = (bytes >> 1 & 0x5555'5555'5555'5555) | (bytes & 0x5555'5555'5555'5555) << 1;
  bytes = (bytes >> 2 & 0x3333'3333'3333'3333) | (bytes & 0x3333'3333'3333'3333) << 2;
  return (bytes >> 4 & 0x0f0f'0f0f'0f0f'0f0f) | (bytes & 0x0f0f'0f0f'0f0f'0f0f) << 4;
}

inline void encode_one_bit_steps(float threshold, const float* gradient, float* residual,
                                 std::uint8_t* encoded, std::size_t count) {
  const Vector bound = splat<Vector>(threshold);
  const Vector one = splat<Vector>(1), minus_one = splat<Vector>(-1);
  const std::size_t whole = count / kStep * kStep;
  for (std::size_t at = 0; at < whole; at += kStep) {
    std::uint64_t bits = 0;
    for (std::size_t v = 0; v < kStepVectors; ++v) {
      const std::size_t i = at + v * kLanes;
      const Vector r = corrected_vector(residual + i, gradient + i);
      const auto positive = hn::Gt(r, bound);
      Float32::store(sub(r, hn::IfThenElse(positive, one, minus_one)), residual + i);
      std::uint8_t mask[8] = {};
      hn::StoreMaskBits(Floats(), positive, mask);
      std::uint64_t lanes = 0;
      std::memcpy(&lanes, mask, sizeof(lanes));
      bits |= lanes << (v * kLanes);
    }
    bits = reversed_bits(bits);
    std::memcpy(encoded + at / 8, &bits, sizeof(bits));
  }
  encode_one_bit(threshold, gradient, residual, encoded, whole, count);
}

HWY_INLINE hn::Vec<Int8Code::Codes> quantize(Int8Code /*tag*/, Vector scaled) {
  return hn::DemoteTo(Int8Code::Codes(), hn::NearestInt(scaled));
}

// See float_to_fp8(). The values are numbers.
template <CodecKind kFp8>
HWY_INLINE hn::Vec<typename Fp8Code<kFp8>::Codes> quantize(Fp8Code<kFp8> /*tag*/, Vector scaled) {
  constexpr Fp8Format kFormat = kFp8 == CodecKind::kFp8E4M3 ? kE4M3 : kE5M2;
  constexpr int kDrop = 23 - static_cast<int>(kFormat.fraction_bits);
  const Words words;
  const auto set = [&](std::uint32_t value) HWY_ATTR { return hn::Set(words, value); };
  const auto bits = hn::BitCast(words, scaled);
  const auto magnitude = hn::And(bits, set(0x7fff'ffff));
  const auto sign = hn::And(hn::ShiftRight<24>(bits), set(0x80));
  constexpr std::uint32_t kUnit = 127 + 1 - kFormat.bias + static_cast<std::uint32_t>(kDrop);
  const auto big = hn::BitCast(Floats(), set(kUnit << 23));
  const auto small =
      hn::And(hn::BitCast(words, add(hn::BitCast(Floats(), magnitude), big)), set(0xff));
  constexpr std::uint32_t kRebias =
      (1U << (kDrop - 1)) - 1 - ((127 - kFormat.bias) << 23);  // modulo 2³²
  const auto odd = hn::And(hn::ShiftRight<kDrop>(magnitude), set(1));
  const auto normal = hn::ShiftRight<kDrop>(hn::Add(hn::Add(magnitude, odd), set(kRebias)));
  const auto is_small = hn::Lt(hn::BitCast(Floats(), magnitude),
                               hn::BitCast(Floats(), set((128 - kFormat.bias) << 23)));
  const auto code =
      hn::Min(hn::BitCast(words, hn::IfThenElse(is_small, hn::BitCast(Floats(), small),
                                                hn::BitCast(Floats(), normal))),
              set(kFormat.largest));
  const hn::RebindToSigned<Floats> ints;
  return hn::DemoteTo(typename Fp8Code<kFp8>::Codes(), hn::BitCast(ints, hn::Or(sign, code)));
}

// Corrects a block's elements, all of them, and returns the bits of the largest magnitude.
inline std::uint32_t correct_block(const float* gradient, float* residual, std::size_t count) {
  const hn::RebindToSigned<Floats> ints;
  auto most = hn::Zero(ints);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vector r = corrected_vector(residual + i, gradient + i);
    Float32::store(r, residual + i);
    most = hn::Max(most, hn::BitCast(ints, magnitude(r)));
  }
  auto largest = static_cast<std::uint32_t>(hn::GetLane(hn::MaxOfLanes(ints, most)));
  for (; i < count; ++i) {
    residual[i] = corrected(residual[i], gradient[i]);
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(residual[i]) & 0x7fff'ffff;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

template <class Code>
void encode_block_steps(const CodecSpec& spec, const float* gradient, float* residual,
                        std::uint8_t* encoded, std::size_t count) {
  using Element = typename Code::Codes::T;
  std::uint8_t* const codes = encoded + codec_blocks(spec, count) * sizeof(float);
  for (std::size_t begin = 0; begin < count; begin += spec.block) {
    const std::size_t end = HWY_MIN(begin + spec.block, count);
    const BlockScale scale =
        block_scale(Code::kKind, correct_block(gradient + begin, residual + begin, end - begin));
    store_scale(scale.scale, encoded, begin / spec.block);
    if (scale.inverse == 0) {
      encode_empty_block(scale, residual + begin, codes + begin, end - begin);
      continue;
    }
    const Vector inverse = splat<Vector>(scale.inverse);
    const Vector multiplier = splat<Vector>(block_multiplier(Code::kKind, scale.scale));
    std::size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      const Vector r = Float32::load(residual + i);
      const auto code = quantize(Code(), mul(r, inverse));
      hn::StoreU(code, typename Code::Codes(), reinterpret_cast<Element*>(codes + i));
      Float32::store(sub(r, mul(Code::part(code), multiplier)), residual + i);
    }
    encode_block_codes(Code::kKind, scale, residual, codes, i, end);
  }
}

inline void encode_gradient(const CodecSpec& spec, const float* gradient, float* residual,
                            void* encoded, std::size_t count) {
  auto* const bytes = static_cast<std::uint8_t*>(encoded);
  switch (spec.kind) {
    case CodecKind::kNone:
      return;
    case CodecKind::kFp8E4M3:
      return encode_block_steps<E4M3Code>(spec, gradient, residual, bytes, count);
    case CodecKind::kFp8E5M2:
      return encode_block_steps<E5M2Code>(spec, gradient, residual, bytes, count);
    case CodecKind::kInt8:
      return encode_block_steps<Int8Code>(spec, gradient, residual, bytes, count);
    case CodecKind::kTwoBit:
      return encode_two_bit_steps(spec.threshold, gradient, residual, bytes, count);
    case CodecKind::kOneBit:
      return encode_one_bit_steps(spec.threshold, gradient, residual, bytes, count);
    case CodecKind::kTopK:
      return encode_top_k(spec, gradient, residual, bytes, count);
  }
}

PENSTOCK_END_TARGET

#endif

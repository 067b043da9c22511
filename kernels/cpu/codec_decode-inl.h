// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Codecs decoded into sums: steps of 64 elements, whose sum stays in registers while the workers
// take turns. A codec here is a struct with
//   row(encoded, at)      where a worker's elements from `at` on are, and what they are scaled by
//   decode(row, v)        the v-th vector of the step
//   plus(sum, row, v)     the same added to a sum
//   element(encoded, i)   and plus_element(sum, encoded, i), of one element
// elements.h says what the values are.

#if defined(PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H
#undef PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H
#else
#define PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H
#endif

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/codec/elements.h"
#include "kernels/cpu/codec_vector-inl.h"
#include "kernels/cpu/vector-inl.h"

PENSTOCK_BEGIN_TARGET

inline constexpr std::size_t kStep = 64;
inline constexpr std::size_t kStepVectors = kStep / kLanes;
inline constexpr std::size_t kPrefetchElements = 2048;
static_assert(kMinCodecBlock % kStep == 0, "a step has one scale");
static_assert(kSummedAtOnce % kStep == 0);

using Words = hn::RebindToUnsigned<Floats>;
using WordVector = hn::Vec<Words>;

// Sixteen elements of 2bit are a word, of 1bit half a word; a vector is one of these parts of it.
inline constexpr std::size_t kPerWord = 16;
inline constexpr std::size_t kParts = kPerWord / kLanes;
static_assert(kPerWord % kLanes == 0);

// Where the lanes of each part have their code in a little-endian word; `bits` a code.
struct LaneShifts {
  template <class Shift>
  explicit LaneShifts(const Shift& shift_of) {
    std::uint32_t shifts[kPerWord];
    for (std::uint32_t e = 0; e < kPerWord; ++e) shifts[e] = shift_of(e);
    for (std::size_t part = 0; part < kParts; ++part)
      of[part] = hn::LoadU(Words(), shifts + part * kLanes);
  }
  WordVector of[kParts];
};
inline std::uint32_t two_bit_shift(std::uint32_t element) {
  return 8 * (element / 4) + 6 - 2 * (element % 4);
}
inline std::uint32_t one_bit_shift(std::uint32_t element) {
  return 8 * (element / 8) + 7 - element % 8;
}

struct TwoBit {
  using Row = const std::uint8_t*;
  explicit TwoBit(const EncodedGradients& encoded)
      : shifts(two_bit_shift), threshold(encoded.spec.threshold) {
    float values[kPerWord];
    for (std::size_t i = 0; i < kPerWord; ++i)
      values[i] = i % 4 == 3 ? threshold : i % 4 == 2 ? -threshold : 0.0F;
    table = Float32::load(values);
  }
  HWY_INLINE Row row(const std::uint8_t* encoded, std::size_t at) const {
    __builtin_prefetch(encoded + (at + kPrefetchElements) / 4, 0, 3);
    return encoded + at / 4;
  }
  HWY_INLINE Vector decode(Row row, std::size_t v) const {
    std::uint32_t word = 0;
    std::memcpy(&word, row + v / kParts * sizeof(word), sizeof(word));
    const auto codes = hn::Shr(hn::Set(Words(), word), shifts.of[v % kParts]);
    const auto index = hn::And(codes, hn::Set(Words(), 3));
    return hn::TableLookupLanes(table, hn::IndicesFromVec(Floats(), index));
  }
  HWY_INLINE Vector plus(Vector sum, Row row, std::size_t v) const {
    return add(sum, decode(row, v));
  }
  float element(const std::uint8_t* encoded, std::size_t i) const {
    return decode_two_bit(encoded, i, threshold);
  }
  float plus_element(float sum, const std::uint8_t* encoded, std::size_t i) const {
    return sum + element(encoded, i);
  }
  LaneShifts shifts;
  float threshold;
  Vector table;
};

struct OneBit {
  using Row = const std::uint8_t*;
  explicit OneBit(const EncodedGradients& /*encoded*/)
      : shifts([](std::uint32_t element) { return 31 - one_bit_shift(element); }) {}
  HWY_INLINE Row row(const std::uint8_t* encoded, std::size_t at) const {
    __builtin_prefetch(encoded + (at + kPrefetchElements) / 8, 0, 3);
    return encoded + at / 8;
  }
  HWY_INLINE Vector decode(Row row, std::size_t v) const {
    std::uint16_t half = 0;
    std::memcpy(&half, row + v / kParts * sizeof(half), sizeof(half));
    const auto bits = hn::Shl(hn::Set(Words(), half), shifts.of[v % kParts]);
    const auto one = hn::And(bits, hn::Set(Words(), 0x8000'0000));
    return hn::BitCast(Floats(), hn::Xor(one, hn::Set(Words(), 0xbf80'0000)));
  }
  HWY_INLINE Vector plus(Vector sum, Row row, std::size_t v) const {
    return add(sum, decode(row, v));
  }
  float element(const std::uint8_t* encoded, std::size_t i) const {
    return decode_one_bit(encoded, i);
  }
  float plus_element(float sum, const std::uint8_t* encoded, std::size_t i) const {
    return sum + element(encoded, i);
  }
  LaneShifts shifts;
};

// A code as a part of its value that is exact; see block_part().
struct Int8Code {
  static constexpr CodecKind kKind = CodecKind::kInt8;
  using Codes = hn::Rebind<std::int8_t, Floats>;
  static HWY_INLINE Vector part(hn::Vec<Codes> codes) {
    const hn::RebindToSigned<Floats> ints;
    return hn::ConvertTo(Floats(), hn::PromoteTo(ints, codes));
  }
};

template <CodecKind kFp8>
struct Fp8Code {
  static constexpr CodecKind kKind = kFp8;
  using Codes = hn::Rebind<std::uint8_t, Floats>;
  using Halves = hn::Rebind<std::uint16_t, Floats>;
  static HWY_INLINE Vector part(hn::Vec<Codes> codes) {
    const Halves d;
    auto half = hn::PromoteTo(d, codes);
    if constexpr (kFp8 == CodecKind::kFp8E5M2) {
      half = hn::ShiftLeft<8>(half);
    } else {
      const auto magnitude = hn::And(half, hn::Set(d, 0x7f));
      const auto sign = hn::ShiftLeft<8>(hn::And(half, hn::Set(d, 0x80)));
      const auto nan = hn::Eq(magnitude, hn::Set(d, 0x7f));
      half = hn::IfThenElse(nan, hn::Set(d, 0x7e00), hn::Or(sign, hn::ShiftLeft<7>(magnitude)));
    }
    return hn::PromoteTo(Floats(), hn::BitCast(hn::Rebind<hwy::float16_t, Floats>(), half));
  }
};
using E4M3Code = Fp8Code<CodecKind::kFp8E4M3>;
using E5M2Code = Fp8Code<CodecKind::kFp8E5M2>;

template <class Code>
struct Blocks {
  struct Row {
    const typename Code::Codes::T* codes;
    Vector multiplier;
  };
  explicit Blocks(const EncodedGradients& encoded)
      : spec(encoded.spec),
        count(encoded.count),
        scale_bytes(codec_blocks(spec, count) * sizeof(float)),
        shift(std::countr_zero(spec.block)) {}
  HWY_INLINE Row row(const std::uint8_t* encoded, std::size_t at) const {
    __builtin_prefetch(encoded + scale_bytes + at + kPrefetchElements, 0, 3);
    __builtin_prefetch(encoded + ((at + kPrefetchElements) >> shift) * sizeof(float), 0, 3);
    const float scale = load_scale(encoded, at >> shift);
    return {reinterpret_cast<const typename Code::Codes::T*>(encoded + scale_bytes + at),
            splat<Vector>(block_multiplier(Code::kKind, scale))};
  }
  HWY_INLINE Vector part(const Row& row, std::size_t v) const {
    return Code::part(hn::LoadU(typename Code::Codes(), row.codes + v * kLanes));
  }
  HWY_INLINE Vector decode(const Row& row, std::size_t v) const {
    return mul(part(row, v), row.multiplier);
  }
  HWY_INLINE Vector plus(Vector sum, const Row& row, std::size_t v) const {
    return fma(part(row, v), row.multiplier, sum);
  }
  float element(const std::uint8_t* encoded, std::size_t i) const {
    const BlockElement e = block_element(spec, encoded, count, i);
    return e.part * e.multiplier;
  }
  float plus_element(float sum, const std::uint8_t* encoded, std::size_t i) const {
    const BlockElement e = block_element(spec, encoded, count, i);
    return std::fma(e.part, e.multiplier, sum);
  }
  CodecSpec spec;
  std::size_t count;
  std::size_t scale_bytes;
  int shift;
};

template <class Codec>
HWY_NOINLINE void sum_steps(const EncodedGradients& encoded, std::size_t begin, std::size_t end,
                            float* sums) {
  const Codec codec(encoded);
  std::size_t at = begin;
  for (; at + kStep <= end; at += kStep) {
    Vector sum[kStepVectors];
    const auto first = codec.row(encoded.gradients[0], at);
    for (std::size_t v = 0; v < kStepVectors; ++v) sum[v] = codec.decode(first, v);
    for (std::uint32_t w = 1; w < encoded.workers; ++w) {
      const auto row = codec.row(encoded.gradients[w], at);
      for (std::size_t v = 0; v < kStepVectors; ++v) sum[v] = codec.plus(sum[v], row, v);
    }
    for (std::size_t v = 0; v < kStepVectors; ++v)
      Float32::store(sum[v], sums + (at - begin) + v * kLanes);
  }
  for (; at < end; ++at) {
    float sum = codec.element(encoded.gradients[0], at);
    for (std::uint32_t w = 1; w < encoded.workers; ++w)
      sum = codec.plus_element(sum, encoded.gradients[w], at);
    sums[at - begin] = sum;
  }
}

// Whether every sum of up to `workers` times ±threshold is exact, in any order. So it is for 0.5
// and, up to 64 workers, for any threshold of 18 bits or less.
inline bool sums_exactly(float threshold, std::uint32_t workers) {
  const auto bits = std::bit_cast<std::uint32_t>(threshold);
  const std::uint32_t exponent = bits >> 23;
  std::uint32_t significand = (bits & 0x7f'ffff) | 0x80'0000;
  significand >>= std::countr_zero(significand);
  return exponent > 0 && exponent < 240 && std::uint64_t{significand} * workers <= (1U << 24);
}

// 2bit where the sums are exact: the workers' signs are counted in bytes, four elements by two
// look-ups of a nibble each, and only the counts become floats.
HWY_NOINLINE inline void sum_two_bit_counts(const EncodedGradients& encoded, std::size_t begin,
                                            std::size_t end, float* sums) {
  const hn::ScalableTag<std::uint8_t> d;
  const hn::Repartition<std::uint16_t, decltype(d)> pairs;
  constexpr std::size_t kBytes = 4 * kLanes;  // of a vector; each holds four elements
  alignas(16) std::uint8_t signs[2][16];      // of a nibble's first and second element
  for (std::uint32_t nibble = 0; nibble < 16; ++nibble)
    for (std::uint32_t e = 0; e < 2; ++e) {
      const std::uint32_t code = nibble >> (2 - 2 * e) & 3;
      signs[e][nibble] = code == 3 ? 1 : code == 2 ? 0xff : 0;
    }
  const auto first = hn::LoadDup128(d, signs[0]), second = hn::LoadDup128(d, signs[1]);
  const auto low = hn::Set(d, 0x0f);
  const Vector threshold = splat<Vector>(encoded.spec.threshold);
  std::size_t at = begin;
  for (; at + 4 * kBytes <= end; at += 4 * kBytes) {
    auto a = hn::Zero(d), b = a, c = a, e = a;  // elements 0 … 3 of each byte
    for (std::uint32_t w = 0; w < encoded.workers; ++w) {
      const std::uint8_t* const from = encoded.gradients[w] + at / 4;
      __builtin_prefetch(from + kPrefetchElements / 4, 0, 3);
      const auto bytes = hn::LoadU(d, from);
      const auto high = hn::And(hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(pairs, bytes))), low);
      a = hn::Add(a, hn::TableLookupBytes(first, high));
      b = hn::Add(b, hn::TableLookupBytes(second, high));
      c = hn::Add(c, hn::TableLookupBytes(first, hn::And(bytes, low)));
      e = hn::Add(e, hn::TableLookupBytes(second, hn::And(bytes, low)));
    }
    const auto ab = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
    const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
    const auto ce = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
    const auto ce_high = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
    // Quarter q of every 128-bit block: 16 elements, in order.
    alignas(64) std::int8_t counts[4][kBytes];
    const hn::RebindToSigned<decltype(d)> store;
    hn::Store(hn::BitCast(store, hn::InterleaveLower(pairs, ab, ce)), store, counts[0]);
    hn::Store(hn::BitCast(store, hn::InterleaveUpper(pairs, ab, ce)), store, counts[1]);
    hn::Store(hn::BitCast(store, hn::InterleaveLower(pairs, ab_high, ce_high)), store, counts[2]);
    hn::Store(hn::BitCast(store, hn::InterleaveUpper(pairs, ab_high, ce_high)), store, counts[3]);
    for (std::size_t i = 0; i < 4 * kBytes; i += kLanes) {
      const std::int8_t* const from = &counts[i % 64 / 16][i / 64 * 16 + i % 16];
      const Vector count = Int8Code::part(hn::LoadU(Int8Code::Codes(), from));
      Float32::store(mul(count, threshold), sums + (at - begin) + i);
    }
  }
  if (at < end) sum_steps<TwoBit>(encoded, at, end, sums + (at - begin));
}

void sum_encoded(EncodedGradients& encoded, std::size_t begin, std::size_t end, float* sums) {
  if (encoded.workers == 0) return encoded.sum_top_k(begin, end, sums);
  switch (encoded.spec.kind) {
    case CodecKind::kNone:
      return;
    case CodecKind::kFp8E4M3:
      return sum_steps<Blocks<E4M3Code>>(encoded, begin, end, sums);
    case CodecKind::kFp8E5M2:
      return sum_steps<Blocks<E5M2Code>>(encoded, begin, end, sums);
    case CodecKind::kInt8:
      return sum_steps<Blocks<Int8Code>>(encoded, begin, end, sums);
    case CodecKind::kTwoBit:
      if (sums_exactly(encoded.spec.threshold, encoded.workers))
        return sum_two_bit_counts(encoded, begin, end, sums);
      return sum_steps<TwoBit>(encoded, begin, end, sums);
    case CodecKind::kOneBit:
      return sum_steps<OneBit>(encoded, begin, end, sums);
    case CodecKind::kTopK:
      return encoded.sum_top_k(begin, end, sums);
  }
}

inline void decode_gradient(const CodecSpec& spec, const void* bytes, float* values,
                            std::size_t count) {
  EncodedGradients one(spec, &bytes, 1, count);
  sum_encoded(one, 0, count, values);
  for (std::size_t i = 0; i < count; ++i) values[i] = penstock::canonical(values[i]);
}

PENSTOCK_END_TARGET

#endif

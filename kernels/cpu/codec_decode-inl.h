// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Codecs decoded into sums: steps of 64 elements, whose sum stays in registers while the workers
// take turns. A codec here is a struct with
//   row(encoded, at)   where a worker's elements from `at` on are, and what they are scaled by
//   decode(row, v)     the v-th vector of the step
// elements.h says what the values are.

#if defined(PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H
#undef PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H
#else
#define PENSTOCK_KERNELS_CPU_CODEC_DECODE_INL_H
#endif

#include <bit>
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
  float element(const std::uint8_t* encoded, std::size_t i) const {
    return decode_two_bit(encoded, i, threshold);
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
  float element(const std::uint8_t* encoded, std::size_t i) const {
    return decode_one_bit(encoded, i);
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
  HWY_INLINE Vector decode(const Row& row, std::size_t v) const {
    const typename Code::Codes d;
    return mul(Code::part(hn::LoadU(d, row.codes + v * kLanes)), row.multiplier);
  }
  float element(const std::uint8_t* encoded, std::size_t i) const {
    return decode_block_code(spec, encoded, count, i);
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
      for (std::size_t v = 0; v < kStepVectors; ++v) sum[v] = add(sum[v], codec.decode(row, v));
    }
    for (std::size_t v = 0; v < kStepVectors; ++v)
      Float32::store(sum[v], sums + (at - begin) + v * kLanes);
  }
  for (; at < end; ++at) {
    float sum = codec.element(encoded.gradients[0], at);
    for (std::uint32_t w = 1; w < encoded.workers; ++w)
      sum += codec.element(encoded.gradients[w], at);
    sums[at - begin] = sum;
  }
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

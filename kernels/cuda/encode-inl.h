// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Gradients encoded with error feedback, as codec/elements.h says. A block takes kEncodeElements
// elements of a slice in runs of eight a thread. Codes with a scale need the largest magnitude of
// each codec block first: correct, then quantize behind a barrier. 2bit and 1bit need none.

#include "kernels/cuda/encode.h"
#include "kernels/cuda/sums-inl.h"

PENSTOCK_BEGIN_TARGET

struct EncodeShared {
  std::uint32_t largest[kEncodeElements / kMinCodecBlock];  // bits of a codec block's magnitude
};

// Calls `eight(begin)` for the thread's runs of eight elements or, where a slice is misaligned or
// ends, `some(begin, end)`; `block` counts within the slice.
template <class Eight, class Some>
PENSTOCK_DEVICE inline void for_runs(const SliceEncode& slice, std::uint32_t block,
                                     std::uint32_t thread, const Eight& eight, const Some& some) {
  for (std::uint32_t run = 0; run < kEncodeElements; run += kBlockElements) {
    const std::uint64_t begin = std::uint64_t{block} * kEncodeElements + run + thread * kPerThread;
    if (begin >= slice.count) return;
    const bool whole = slice.count - begin >= kPerThread;
    if (slice.aligned && whole)
      eight(begin);
    else
      some(begin, whole ? begin + kPerThread : slice.count);
  }
}

// residual + gradient of eight elements.
PENSTOCK_DEVICE inline void load_corrected(const SliceEncode& slice, std::uint64_t begin,
                                           float (&r)[kPerThread]) {
  float gradient[kPerThread];
  Float32::load(slice.gradient + begin, gradient);
  Float32::load(slice.residual + begin, r);
  for (std::uint32_t i = 0; i < kPerThread; ++i) r[i] = corrected(r[i], gradient[i]);
}

// ---- 2bit, 1bit ---------------------------------------------------------------------------------

PENSTOCK_DEVICE inline void encode_two_bits(const SliceEncode& slice, std::uint32_t block,
                                            std::uint32_t thread) {
  const float threshold = slice.codec.threshold;
  for_runs(
      slice, block, thread,
      [&](std::uint64_t begin) {
        float r[kPerThread];
        load_corrected(slice, begin, r);
        std::uint32_t codes = 0;  // the first element in the two top bits of the lower byte
        for (std::uint32_t i = 0; i < kPerThread; ++i) {
          const std::uint32_t code = two_bit_code(r[i], threshold);
          codes |= code << (8 * (i / 4) + 6 - 2 * (i % 4));
          r[i] = two_bit_rest(r[i], code, threshold);
        }
        Float32::store(r, slice.residual + begin);
        slice.encoded[begin / 4] = static_cast<std::uint8_t>(codes);
        slice.encoded[begin / 4 + 1] = static_cast<std::uint8_t>(codes >> 8);
      },
      [&](std::uint64_t begin, std::uint64_t end) {
        encode_two_bit(threshold, slice.gradient, slice.residual, slice.encoded, begin, end);
      });
}

PENSTOCK_DEVICE inline void encode_one_bits(const SliceEncode& slice, std::uint32_t block,
                                            std::uint32_t thread) {
  const float threshold = slice.codec.threshold;
  for_runs(
      slice, block, thread,
      [&](std::uint64_t begin) {
        float r[kPerThread];
        load_corrected(slice, begin, r);
        std::uint32_t codes = 0;
        for (std::uint32_t i = 0; i < kPerThread; ++i) {
          const bool one = r[i] > threshold;
          codes |= one ? 1U << (7 - i) : 0U;
          r[i] = one ? sub(r[i], 1) : add(r[i], 1);
        }
        Float32::store(r, slice.residual + begin);
        slice.encoded[begin / 8] = static_cast<std::uint8_t>(codes);
      },
      [&](std::uint64_t begin, std::uint64_t end) {
        encode_one_bit(threshold, slice.gradient, slice.residual, slice.encoded, begin, end);
      });
}

// ---- int8, fp8 ----------------------------------------------------------------------------------

PENSTOCK_DEVICE inline void encode_clear(EncodeShared& shared, std::uint32_t thread) {
  if (thread < kEncodeElements / kMinCodecBlock) shared.largest[thread] = 0;
}

PENSTOCK_DEVICE inline std::uint32_t magnitude_bits(float value) {
  return std::bit_cast<std::uint32_t>(value) & 0x7fff'ffff;
}

// `raise(word, bits)` leaves the larger in the word, whoever else does so.
template <class Raise>
PENSTOCK_DEVICE void encode_correct(const SliceEncode& slice, EncodeShared& shared,
                                    std::uint32_t block, std::uint32_t thread, const Raise& raise) {
  for_runs(
      slice, block, thread,
      [&](std::uint64_t begin) {
        float r[kPerThread];
        load_corrected(slice, begin, r);
        std::uint32_t largest = 0;
        for (std::uint32_t i = 0; i < kPerThread; ++i)
          largest = magnitude_bits(r[i]) > largest ? magnitude_bits(r[i]) : largest;
        Float32::store(r, slice.residual + begin);
        raise(shared.largest[begin % kEncodeElements / slice.codec.block], largest);
      },
      [&](std::uint64_t begin, std::uint64_t end) {
        for (std::uint64_t i = begin; i < end; ++i) {
          slice.residual[i] = corrected(slice.residual[i], slice.gradient[i]);
          raise(shared.largest[i % kEncodeElements / slice.codec.block],
                magnitude_bits(slice.residual[i]));
        }
      });
}

template <CodecKind kKind>
PENSTOCK_DEVICE void encode_quantize(const SliceEncode& slice, const EncodeShared& shared,
                                     std::uint32_t block, std::uint32_t thread) {
  std::uint8_t* const codes =
      slice.encoded + codec_blocks(slice.codec, slice.count) * sizeof(float);
  // Of the codec block at `begin`; its first elements' thread writes it.
  const auto scale_at = [&](std::uint64_t begin) {
    const BlockScale scale =
        block_scale(kKind, shared.largest[begin % kEncodeElements / slice.codec.block]);
    if (begin % slice.codec.block == 0)
      reinterpret_cast<Word*>(slice.encoded)[begin / slice.codec.block].bits =
          std::bit_cast<std::uint32_t>(scale.scale);
    return scale;
  };
  for_runs(
      slice, block, thread,
      [&](std::uint64_t begin) {
        const BlockScale scale = scale_at(begin);
        const float multiplier = block_multiplier(kKind, scale.scale);
        float r[kPerThread];
        Float32::load(slice.residual + begin, r);
        Word word[2] = {};
        for (std::uint32_t i = 0; i < kPerThread; ++i) {
          const std::uint8_t code =
              scale.inverse == 0 ? std::uint8_t{0} : block_code(kKind, mul(r[i], scale.inverse));
          if (scale.inverse != 0)
            r[i] = sub(r[i], mul(Encoded::part<kKind>(code), multiplier));
          else if (scale.scale != 0)
            r[i] = 0;
          word[i / 4].bits |= std::uint32_t{code} << (8 * (i % 4));
        }
        Float32::store(r, slice.residual + begin);
        reinterpret_cast<Word*>(codes + begin)[0] = word[0];
        reinterpret_cast<Word*>(codes + begin)[1] = word[1];
      },
      [&](std::uint64_t begin, std::uint64_t end) {
        const BlockScale scale = scale_at(begin);
        if (scale.inverse != 0)
          return encode_block_codes(kKind, scale, slice.residual, codes, begin, end);
        for (std::uint64_t i = begin; i < end; ++i) {
          codes[i] = 0;
          if (scale.scale != 0) slice.residual[i] = 0;
        }
      });
}

PENSTOCK_END_TARGET

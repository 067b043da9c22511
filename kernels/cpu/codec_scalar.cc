// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/codec_scalar.h"

#include <algorithm>

#include "kernels/codec/elements.h"

namespace penstock::scalar {
namespace {

// `sum` with a worker's element added; the first one's is the sum.
float add_element(const EncodedGradients& encoded, std::uint32_t worker, std::size_t i, float sum) {
  const std::uint8_t* const bytes = encoded.gradients[worker];
  const auto added = [&](float value) { return worker == 0 ? value : sum + value; };
  switch (encoded.spec.kind) {
    case CodecKind::kTwoBit:
      return added(decode_two_bit(bytes, i, encoded.spec.threshold));
    case CodecKind::kOneBit:
      return added(decode_one_bit(bytes, i));
    default: {
      const BlockElement e = block_element(encoded.spec, bytes, encoded.count, i);
      return worker == 0 ? e.part * e.multiplier : std::fma(e.part, e.multiplier, sum);
    }
  }
}

void encode_blocks(const CodecSpec& spec, const float* gradient, float* residual,
                   std::uint8_t* encoded, std::size_t count) {
  std::uint8_t* const codes = encoded + codec_blocks(spec, count) * sizeof(float);
  for (std::size_t begin = 0; begin < count; begin += spec.block) {
    const std::size_t end = std::min<std::size_t>(begin + spec.block, count);
    std::uint32_t largest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      residual[i] = corrected(residual[i], gradient[i]);
      largest = std::max(largest, std::bit_cast<std::uint32_t>(residual[i]) & 0x7fff'ffff);
    }
    const BlockScale scale = block_scale(spec.kind, largest);
    store_scale(scale.scale, encoded, begin / spec.block);
    if (scale.inverse == 0)
      encode_empty_block(scale, residual + begin, codes + begin, end - begin);
    else
      encode_block_codes(spec.kind, scale, residual, codes, begin, end);
  }
}

void encode(const CodecSpec& spec, const float* gradient, float* residual, void* encoded,
            std::size_t count) {
  auto* const bytes = static_cast<std::uint8_t*>(encoded);
  switch (spec.kind) {
    case CodecKind::kNone:
      return;
    case CodecKind::kTwoBit:
      return encode_two_bit(spec.threshold, gradient, residual, bytes, 0, count);
    case CodecKind::kOneBit:
      return encode_one_bit(spec.threshold, gradient, residual, bytes, 0, count);
    case CodecKind::kTopK:
      return encode_top_k(spec, gradient, residual, bytes, count);
    default:
      return encode_blocks(spec, gradient, residual, bytes, count);
  }
}

void decode(const CodecSpec& spec, const void* encoded, float* values, std::size_t count) {
  EncodedGradients one(spec, &encoded, 1, count);
  sum_encoded(one, 0, count, values);
  for (std::size_t i = 0; i < count; ++i) values[i] = canonical(values[i]);
}

}  // namespace

void sum_encoded(EncodedGradients& encoded, std::size_t begin, std::size_t end, float* sums) {
  if (encoded.workers == 0 || encoded.spec.kind == CodecKind::kTopK)
    return encoded.sum_top_k(begin, end, sums);
  for (std::size_t i = begin; i < end; ++i) {
    float sum = 0;
    for (std::uint32_t w = 0; w < encoded.workers; ++w) sum = add_element(encoded, w, i, sum);
    sums[i - begin] = sum;
  }
}

const CodecKernels kCodecs = {encode, decode};

}  // namespace penstock::scalar

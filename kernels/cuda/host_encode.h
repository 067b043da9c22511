// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The GPU's encoders run by the CPU, for tests: what a block does, its threads in an order of the
// caller's choice between any two barriers.

#include "kernels/cuda/encode-inl.h"
#include "kernels/cuda/host_pass.h"

namespace penstock::cuda {

template <CodecKind kKind>
void encode_on_host(const SliceEncode& slice, std::uint32_t block, const ThreadOrder& order) {
  if constexpr (kKind == CodecKind::kTwoBit) {
    for (const std::uint32_t thread : order) encode_two_bits(slice, block, thread);
  } else if constexpr (kKind == CodecKind::kOneBit) {
    for (const std::uint32_t thread : order) encode_one_bits(slice, block, thread);
  } else {
    EncodeShared shared;
    for (const std::uint32_t thread : order) encode_clear(shared, thread);
    for (const std::uint32_t thread : order)
      encode_correct(slice, shared, block, thread, [](std::uint32_t& word, std::uint32_t bits) {
        word = bits > word ? bits : word;
      });
    for (const std::uint32_t thread : order) encode_quantize<kKind>(slice, shared, block, thread);
  }
}

// One block of a launch over slices of one kind.
inline void encode_on_host(const SliceEncode* slices, std::uint32_t count, std::uint32_t block,
                           const ThreadOrder& order) {
  const SliceEncode& slice = find_slice(slices, count, block);
  const std::uint32_t at = block - slice.first_block;
  switch (slice.codec.kind) {
    case CodecKind::kFp8E4M3:
      return encode_on_host<CodecKind::kFp8E4M3>(slice, at, order);
    case CodecKind::kFp8E5M2:
      return encode_on_host<CodecKind::kFp8E5M2>(slice, at, order);
    case CodecKind::kInt8:
      return encode_on_host<CodecKind::kInt8>(slice, at, order);
    case CodecKind::kTwoBit:
      return encode_on_host<CodecKind::kTwoBit>(slice, at, order);
    case CodecKind::kOneBit:
      return encode_on_host<CodecKind::kOneBit>(slice, at, order);
    case CodecKind::kNone:
    case CodecKind::kTopK:
      return;
  }
}

}  // namespace penstock::cuda

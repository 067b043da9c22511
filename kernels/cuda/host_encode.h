// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The GPU's encoders run by the CPU, for tests: what a block does, its threads in an order of the
// caller's choice between any two barriers.

#include "kernels/cuda/host_pass.h"
#include "kernels/cuda/top_k_encode-inl.h"

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

inline void encode_top_k_on_host(const SliceEncode& slice, const ThreadOrder& order) {
  TopKEncodeShared shared;
  for (const std::uint32_t thread : order) top_k_correct(slice, shared, thread);
  for (std::uint32_t which = 0; which < kTopKDigits; ++which) {
    const TopKDigit digit = top_k_digit(which);
    for (const std::uint32_t thread : order)
      top_k_count(slice, shared, thread, digit, [](std::uint32_t& word) { ++word; });
    top_k_pick(shared, digit);
    for (const std::uint32_t thread : order) top_k_clear_histogram(shared, thread);
  }
  for (std::uint64_t round = 0; round < top_k_encode_rounds(slice); ++round) {
    for (const std::uint32_t thread : order) top_k_mark(slice, shared, thread, round);
    for (const std::uint32_t thread : order) top_k_sum(shared, thread);
    for (const std::uint32_t thread : order) top_k_send(slice, shared, thread, round);
    top_k_sent_so_far(shared);
  }
}

// How many blocks a launch over `count` slices of this kind has, which take `blocks` together.
inline std::uint32_t encode_launch_blocks(CodecKind kind, std::uint32_t count,
                                          std::uint32_t blocks) {
  return kind == CodecKind::kTopK ? count : blocks;
}

// One block of a launch over slices of one kind.
inline void encode_on_host(const SliceEncode* slices, std::uint32_t count, std::uint32_t block,
                           const ThreadOrder& order) {
  if (slices[0].codec.kind == CodecKind::kTopK) return encode_top_k_on_host(slices[block], order);
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

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one launch encodes: a table of a worker's slices in device memory. Plain data.

#include "kernels/codec/formats.h"
#include "kernels/cuda/step.h"

namespace penstock::cuda {

// Elements that a block encodes: at least a codec's block of any size, a whole number of each.
inline constexpr std::uint32_t kEncodeElements = kMaxCodecBlock;
// topk takes one for a slice instead: its order leaves no more.
constexpr std::uint32_t encode_blocks_of(std::uint64_t elements) {
  return static_cast<std::uint32_t>((elements + kEncodeElements - 1) / kEncodeElements);
}

// CodecKernels::encode() in device memory, same bits. Arrays that all start at a multiple of 16
// bytes go eight elements at a time, but for topk's last reading.
struct SliceEncode {
  const float* gradient = nullptr;  // [count]
  float* residual = nullptr;        // [count]
  std::uint8_t* encoded = nullptr;  // [encoded_bytes()], at a multiple of 4 bytes
  std::uint64_t count = 0;
  std::uint64_t kept = 0;         // topk: codec_kept()
  std::uint32_t first_block = 0;  // the blocks of the slices before it; they follow one another
  bool aligned = false;
  CodecSpec codec;  // of the kind the kernel is for
};

}  // namespace penstock::cuda

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one launch works through: a table of slices in device memory. Plain data.

#include <cstddef>
#include <cstdint>

#include "kernels/codec/formats.h"
#include "kernels/coefficients.h"
#include "kernels/dtype.h"

namespace penstock::cuda {

inline constexpr std::uint32_t kThreads = 256;                 // of a block
inline constexpr std::uint32_t kBlockElements = 8 * kThreads;  // that a block steps
constexpr std::uint32_t blocks_of(std::uint64_t elements) {
  return static_cast<std::uint32_t>((elements + kBlockElements - 1) / kBlockElements);
}

// What a launch takes gradients as. The first three are DTypes.
enum class GradientType : std::uint8_t { kFloat32, kFloat16, kBfloat16, kEncoded };
inline constexpr std::uint32_t kGradientTypes = 4;
constexpr GradientType gradient_type(DType dtype) { return static_cast<GradientType>(dtype); }

// What is summed. Absent gradients are left out; `workers` counts those that are there, 0 … 64.
// Device pointers throughout, `gradients` too. Arrays that all start at a multiple of 16 bytes go
// eight elements at a time; others go one by one.
struct SliceGradients {
  const void* const* gradients = nullptr;  // [workers] → [count], or what a codec made of it
  std::uint64_t count = 0;
  std::uint32_t workers = 0;
  std::uint32_t first_block = 0;  // the blocks of the slices before it; they follow one another
  float scale = 1;
  bool aligned = false;  // every array, gradients too, starts at a multiple of 16 bytes
  CodecSpec codec;       // of GradientType::kEncoded: topk only where it says so
};

// One round of one slice: UpdateArgs (kernels/update.h) in device memory, same meaning and same
// bits. Not of topk gradients: pass.h sums them first.
struct SliceStep : SliceGradients {
  float* parameters = nullptr;
  void* state[kMaxStatePlanes] = {};
  void* wire = nullptr;  // or nullptr
  std::uint64_t first_element = 0;
  DType wire_dtype = DType::kFloat32;
  Coefficients coefficients;  // of the rule the kernel is for
};

}  // namespace penstock::cuda

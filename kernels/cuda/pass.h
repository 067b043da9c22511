// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What updates are made of where one step is not enough: sums of topk gradients, and the passes of
// optimizers that need norms (kernels/norms.h), over a table of slices in device memory.

#include "kernels/cuda/step.h"
#include "kernels/norms.h"

namespace penstock::cuda {

// Slices of one launch go through one of these; a slice goes through several in this order.
enum class Pass : std::uint8_t {
  kTopK,         // sums = the sum of topk gradients as it is; no other pass takes these
  kPark,         // sums = the gradients' sum, scaled and clipped
  kLambMoments,  // m, v; sums = u, of which kSquares then takes the norm
  kSquares,      // norms = {Σ sums², Σ parameters²}
  kLambApply,    // parameters += rate·u, wire
};
inline constexpr std::uint32_t kPasses = 5;

// Of kTopK and kSquares every slice is one block: their orders leave no more.
constexpr bool is_block_a_slice(Pass pass) { return pass == Pass::kTopK || pass == Pass::kSquares; }

// Plain data, device pointers. Same bits as NormKernels where there is a norm.
struct SlicePass : SliceGradients {  // `scale`: of the sum, or of the parked one in kLambMoments
  float* sums = nullptr;             // [count]
  float* parameters = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  void* wire = nullptr;  // or nullptr
  NormSums* norms = nullptr;
  std::uint64_t kept = 0;  // topk: codec_kept(); gradients start at a multiple of 4 bytes
  float clip = kNoClip;
  DType wire_dtype = DType::kFloat32;
  LambCoefficients lamb;
};

}  // namespace penstock::cuda

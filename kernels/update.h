// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The arguments of the fused update: what one slice's round needs, as pointers and counts.

#include <cstddef>
#include <cstdint>

#include "kernels/coefficients.h"
#include "kernels/dtype.h"

namespace penstock {

struct CodecSpec;  // codec/codec.h

inline constexpr std::uint32_t kMaxWorkers = 64;

// One pass over `count` elements:
//   sum   = gradients[0] + gradients[1] + … in float32, left to right, absent ones skipped
//   sum   = sum · scale, within ±clip, compensated for delay, with an L1 penalty, where the
//           coefficients have these
//   parameters, state = optimizer(parameters, state, sum)
//   wire  = round-to-nearest-even(parameters)
// The sum starts from the first present gradient itself, not from 0 + it, so a single contribution
// keeps its every bit (−0 too). With none present the gradient is +0: the step still happens, decay
// and momentum act. Every NaN stored is the quiet NaN 7fc00000 (7e00 in fp16, 7fc0 in bf16), since
// targets disagree about NaN payloads; all else is IEEE, so results are equal bit for bit on all
// targets, whatever the alignment and however the elements are cut into slices.
// The calling thread's rounding mode must be to-nearest and flush-to-zero off (both the default).
//
// Memory traffic per element: W·g + 8 + 8·S + o bytes (g, o: bytes of a gradient and of a wire
// element, S state planes, W present gradients), of which W·g + 4 + 4·S are reads; bf16 planes
// count half.
//
// State planes: the rule's, in the coefficients' state dtype, then, with compensation, `seen`, in
// float32: the parameters before the update that wrote it last. One plane shared by all workers is
// MXNet's DCASGD; a caller that keeps one per worker passes the plane of the worker whose gradient
// this is and writes into it what that worker is sent (Zheng et al. 2017).
//
// Alignment: each pointer to its element (4 or 2 bytes). 64 bytes is faster. No two arrays overlap.
// Ownership: everything stays the caller's. Errors: none; the driver CHECKs workers and pointers.
struct UpdateArgs {
  const void* const* gradients = nullptr;  // [workers] → [count]; nullptr: nothing this round
  std::uint32_t workers = 0;               // 1 … kMaxWorkers
  DType gradient_dtype = DType::kFloat32;
  // Where set, a gradient is what CodecKernels::encode() made of [count] floats, gradient_dtype
  // does not matter, and the sum is that of the decoded values. Any bytes may be summed.
  const CodecSpec* codec = nullptr;
  float* parameters = nullptr;               // [count], updated in place
  void* state[kMaxStatePlanes] = {nullptr};  // each [count], updated in place
  void* wire = nullptr;                      // [count] written, or nullptr: no output
  DType wire_dtype = DType::kFloat32;
  std::size_t count = 0;
  // Index of the first within the key: what bf16 state is rounded by. Elements 2³² apart share
  // their random bits.
  std::uint64_t first_element = 0;
  float scale = 1;  // 1 for a sum, 1/W for a mean
  // Write `wire` around the caches (needs 64-byte alignment, else ignored). Good when nobody reads
  // it soon from this core; the stores are fenced before the update returns. Same bits either way.
  bool stream_wire = false;
};

}  // namespace penstock

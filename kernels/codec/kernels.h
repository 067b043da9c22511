// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/codec/codec.h"

namespace penstock {

// The codecs of one instruction set; part of KernelTable, whose promises hold: any thread, no
// allocation, equal bits. `spec` is valid and its kind not kNone; arrays need no alignment beyond
// their elements' and do not overlap.
struct CodecKernels {
  // residual += gradient; encoded = Q(residual); residual −= decode(encoded).
  //   gradient, residual  [count]; encoded  [encoded_bytes(spec, count)], written whole
  // Every NaN left in the residual is the quiet one. Residual as long as error feedback goes on:
  // 0 before the first call for a slice.
  void (*encode)(const CodecSpec& spec, const float* gradient, float* residual, void* encoded,
                 std::size_t count);

  // What the server adds for this slice. Any bytes may be decoded.
  void (*decode)(const CodecSpec& spec, const void* encoded, float* values, std::size_t count);
};

}  // namespace penstock

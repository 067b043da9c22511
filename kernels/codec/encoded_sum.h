// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// How the fused update takes encoded gradients: it goes through the slice in chunks whose sum stays
// in the first-level cache, decodes the gradients into that sum and updates from it. Only the
// encoded bytes, the parameters and the state pass through memory. `Sum` and `Update` are one
// target's.

#include <algorithm>

#include "kernels/codec/top_k.h"
#include "kernels/cpu/check_args.h"
#include "kernels/update.h"

namespace penstock {

// The sum waits in the first-level cache, which the streams of the update share. A whole number of
// the largest blocks or the other way round: both are powers of two.
inline constexpr std::size_t kEncodedChunk = 1024;

// One slice's encoded gradients, in rank order, absent ones left out.
struct EncodedGradients {
  EncodedGradients(const CodecSpec& codec, const void* const* present, std::uint32_t how_many,
                   std::size_t elements);

  // Adds the entries of topk between begin and end; called with chunks that follow one another.
  void sum_top_k(std::size_t begin, std::size_t end, float* sums);

  const CodecSpec spec;
  const std::uint32_t workers;
  const std::size_t count;
  const std::uint8_t* gradients[kMaxWorkers];
  TopKReader readers[kMaxWorkers];
};

// The fused update of args.codec's gradients: the same as update() on their decoded values.
//   sum(encoded, begin, end, sums)  sums[i − begin] = the elements' sum in rank order, +0 without
//                                   any; begin is a multiple of kEncodedChunk
//   update(coefficients, args)      of one float32 gradient
template <class Sum, class Update>
void update_encoded(const Coefficients& coefficients, const UpdateArgs& args, const Sum& sum,
                    const Update& update) {
  const void* present[kMaxWorkers];
  const std::uint32_t workers = present_gradients(coefficients.rule, args, present);
  EncodedGradients encoded(*args.codec, present, workers, args.count);
  alignas(64) float sums[kEncodedChunk];
  const void* const summed = sums;
  for (std::size_t begin = 0; begin < args.count; begin += kEncodedChunk) {
    UpdateArgs part = args;
    part.codec = nullptr;
    part.gradient_dtype = DType::kFloat32;
    part.gradients = &summed;
    part.workers = 1;
    part.count = std::min(kEncodedChunk, args.count - begin);
    part.parameters += begin;
    for (std::uint32_t s = 0; s < state_planes(coefficients.rule); ++s) part.state[s] += begin;
    if (args.wire != nullptr)
      part.wire = static_cast<char*>(args.wire) + begin * dtype_bytes(args.wire_dtype);
    sum(encoded, begin, begin + part.count, sums);
    update(coefficients, part);
  }
}

}  // namespace penstock

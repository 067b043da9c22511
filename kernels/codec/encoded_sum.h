// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Encoded gradients on their way into the fused update: it takes them a few elements at a time,
// decoded and summed in the first-level cache.

#include <algorithm>

#include "kernels/codec/top_k.h"
#include "kernels/update.h"

namespace penstock {

// Elements that are summed at once: their sum stays in the first-level cache. 256 … 1024 measure
// alike; with fewer, the calls cost more than the closeness gains.
inline constexpr std::size_t kSummedAtOnce = 512;

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

}  // namespace penstock

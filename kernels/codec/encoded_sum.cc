// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/codec/encoded_sum.h"

namespace penstock {

EncodedGradients::EncodedGradients(const CodecSpec& codec, const void* const* present,
                                   std::uint32_t how_many, std::size_t elements)
    : spec(codec), workers(how_many), count(elements) {
  for (std::uint32_t w = 0; w < workers; ++w) {
    gradients[w] = static_cast<const std::uint8_t*>(present[w]);
    if (spec.kind == CodecKind::kTopK) readers[w] = TopKReader(spec, gradients[w], count);
  }
}

void EncodedGradients::sum_top_k(std::size_t begin, std::size_t end, float* sums) {
  std::fill_n(sums, end - begin, 0.0F);
  for (std::uint32_t w = 0; w < workers; ++w) readers[w].add(begin, end, sums);
}

}  // namespace penstock

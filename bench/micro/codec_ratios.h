// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace penstock::bench {

// Measures, single-threaded, and prints medians over `rounds` rounds with their quartiles:
//   the fused adamw of 8 workers from DRAM, per codec, over the rate with bf16 gradients
//   each encoder on a slice in the cache and on arrays from DRAM, and plain bf16 encoding
// Within a round all take turns. `elements` is the number of parameters.
void print_codec_ratios(std::size_t elements, int rounds);

}  // namespace penstock::bench

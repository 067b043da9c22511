// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace penstock::bench {

// Measures, single-threaded and from DRAM, W = 8 bf16 gradients through adamw with a bf16 wire, in
// `rounds` rounds that interleave what is compared, and prints the median ratios with their spread:
//   fused / read       time to only read the bytes the fused pass reads over its own time
//   separate / fused   time of separate passes over the fused pass's
// Times are this thread's CPU time. `elements` is the number of parameters.
void print_ratios(std::size_t elements, int rounds);

}  // namespace penstock::bench

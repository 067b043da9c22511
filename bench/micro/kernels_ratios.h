// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace penstock::bench {

// CPU time of this thread, in seconds: other processes' time slices do not count.
double thread_seconds();

// Measures, single-threaded and from DRAM, W = 8 bf16 gradients through adamw with a bf16 wire, and
// prints the median ratios over `rounds` rounds with their quartiles:
//   read / fused       time to only read the bytes the fused pass reads, over the fused pass's time
//   separate / fused   time of separate passes over the fused pass's
// Within a round the ways take turns, each on another window of the arrays, until each has been
// through all of them: what disturbs one disturbs all. `elements` is the number of parameters.
void print_ratios(std::size_t elements, int rounds);

}  // namespace penstock::bench

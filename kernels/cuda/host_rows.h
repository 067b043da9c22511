// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The GPU's step of rows run by the CPU, for tests: what a launch does, in an order of the caller's
// choice.

#include "kernels/cuda/rows-inl.h"

namespace penstock::cuda {

// The four threads of touched row `index`; `order` names each of them once.
inline void rows_on_host(const RowCoefficients& c, const RowUpdateArgs& args, std::uint64_t index,
                         const std::uint32_t (&order)[kRowThreads]) {
  const bool aligned = rows_aligned(args, row_planes(c));
  with_row_rule<float>(c, [&](const auto& rule) {
    using Rule = std::remove_cv_t<std::remove_reference_t<decltype(rule)>>;
    OpenRow<Rule> rows[kRowThreads];
    for (std::uint32_t lane : order) rows[lane] = open_lane(rule, c, args, {index, lane}, aligned);
    for (int k = 0; k < int{Rule::kMeans}; ++k)
      for (std::uint32_t distance : {2U, 1U}) {  // as shuffles do: all read, then all write
        float before[kRowThreads][kLaneElements];
        for (std::uint32_t lane = 0; lane < kRowThreads; ++lane)
          for (std::uint32_t j = 0; j < kLaneElements; ++j) before[lane][j] = rows[lane].sums[k][j];
        for (std::uint32_t lane = 0; lane < kRowThreads; ++lane)
          for (std::uint32_t j = 0; j < kLaneElements; ++j)
            rows[lane].sums[k][j] = add(before[lane][j], before[lane ^ distance][j]);
      }
    for (std::uint32_t lane : order) step_lane(rule, c, args, {index, lane}, rows[lane], aligned);
  });
}

}  // namespace penstock::cuda

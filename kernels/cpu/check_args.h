// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/update.h"
#include "transport/base/check.h"

namespace penstock {

// The gradients that are there, in rank order; at most kMaxWorkers. Checks what UpdateArgs demands.
// Returns their number.
inline std::uint32_t present_gradients(const Coefficients& coefficients, const UpdateArgs& args,
                                       const void* (&present)[kMaxWorkers]) {
  CHECK(args.workers >= 1 && args.workers <= kMaxWorkers, "{} workers", args.workers);
  CHECK(args.parameters != nullptr && args.gradients != nullptr);
  for (std::uint32_t i = 0; i < state_planes(coefficients); ++i) CHECK(args.state[i] != nullptr);
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < args.workers; ++i)
    if (args.gradients[i] != nullptr) present[count++] = args.gradients[i];
  return count;
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The order in which sums of squares are taken: see ../norms.h.

#include <cstddef>

#include "kernels/math/device.h"

namespace penstock {

inline constexpr std::size_t kNormLanes = 16;  // sums of squares that are kept apart

// The tree of norms.h.
PENSTOCK_DEVICE inline double add_up(double (&sums)[kNormLanes]) {
  for (std::size_t half = kNormLanes / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

}  // namespace penstock

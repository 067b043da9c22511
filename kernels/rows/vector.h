// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/rows.h"

namespace penstock {

// The vector targets compiled into this build, worst first; `bit` is Highway's.
struct VectorRowTarget {
  std::int64_t bit;
  const RowKernels* kernels;
};
std::span<const VectorRowTarget> vector_row_targets();

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/table.h"

namespace penstock {

// The vector targets compiled into this build, worst first. `bit` is Highway's, `kernels` is
// nullptr for a target without a fused multiply-add, on which bits could not be equal.
struct VectorTarget {
  std::int64_t bit;
  const KernelTable* kernels;
};
std::span<const VectorTarget> vector_targets();

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Whole numbers of a pattern, in a wire dtype.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/table.h"

namespace penstock::psbench {

// Small enough that all arrays of a block stay in the first-level cache.
inline constexpr std::uint64_t kBlock = 1024;

// What every target must equal.
inline const KernelTable& reference() { return *available_kernels().front(); }

// Writes value(0) … value(elements − 1), block by block.
template <class Value>
void fill(std::byte* out, DType dtype, std::uint64_t elements, Value value) {
  std::array<float, kBlock> block;
  for (std::uint64_t begin = 0; begin < elements; begin += kBlock) {
    const std::uint64_t count = std::min(kBlock, elements - begin);
    for (std::uint64_t i = 0; i < count; ++i) block[i] = static_cast<float>(value(begin + i));
    best_kernels().encode(block.data(), out + begin * dtype_bytes(dtype), dtype, count);
  }
}

}  // namespace penstock::psbench

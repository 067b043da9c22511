// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace penstock::cuda {

struct RowsEquality {
  std::uint64_t launches = 0, differing_bytes = 0;
  const char* error = nullptr;  // what CUDA said, where it failed
};

// A part of gpu_check: tables stepped on this GPU against the same body run by the CPU, which the
// tests hold against the plain reference.
RowsEquality check_rows_equality(bool quick);

}  // namespace penstock::cuda

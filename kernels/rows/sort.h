// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The part of a merge that has no floating point: who pushed what for which row.

#include "kernels/rows.h"

namespace penstock {

// One pushed row: its row of the table in the upper 32 bits, its place among all contributions,
// one worker's after another's, in the lower. Ascending order is (row, rank, position).
using RowEntry = std::uint64_t;
constexpr std::uint32_t row_of(RowEntry entry) { return static_cast<std::uint32_t>(entry >> 32); }
constexpr std::uint32_t place_of(RowEntry entry) { return static_cast<std::uint32_t>(entry); }

struct SortedRows {
  const RowEntry* entries;  // in the scratch
  std::size_t count;
  std::uint64_t dropped;
};

// CHECKs what RowMergeArgs demands.
SortedRows sort_rows(const RowMergeArgs& args);

// Finds the bytes of a contribution by its place.
class RowValues {
 public:
  explicit RowValues(const RowMergeArgs& args);
  const void* at(std::uint32_t place) const {
    std::uint32_t worker = 0;
    for (std::uint32_t step = kMaxWorkers / 2; step > 0; step /= 2)
      if (firsts_[worker + step] <= place) worker += step;
    return bases_[worker] + (place - firsts_[worker]) * row_bytes_;
  }

 private:
  std::size_t row_bytes_;
  std::uint64_t firsts_[kMaxWorkers];  // first place of each worker; beyond the last: no place
  const char* bases_[kMaxWorkers];
};

}  // namespace penstock

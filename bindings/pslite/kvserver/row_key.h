// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A row-sparse key's part on this server: a table of float32 rows, all present. Workers push some
// rows; what they push for the same row is added, by rank, and the optimizer steps those rows.

#include <cstdint>
#include <span>
#include <vector>

#include "bindings/pslite/kvserver/dense_key.h"
#include "kernels/rows.h"

namespace penstock::kvserver {

// What one worker pushed: ids[i] is first_id plus the row's number. Checked by has_rows().
struct RowGradient {
  const std::uint64_t* ids = nullptr;
  const float* values = nullptr;  // [count][width]
  std::size_t count = 0;          // 0: an empty push
};

class RowKey {
 public:
  // `values` are all rows, in order. Without any there is no table: kInvalidArgument.
  static Result<RowKey> make(std::uint64_t first_id, std::span<const std::uint64_t> ids,
                             std::span<const float> values);

  // kInvalidArgument naming the id that the table does not have.
  Status has_rows(std::span<const std::uint64_t> ids) const;

  // One update by all these. Without an optimizer the sums replace the rows that were pushed.
  Status apply(const Arithmetic& arithmetic, std::span<const RowGradient> gradients);

  // Of rows that are there, one after the other.
  ps::SArray<char> gather(std::span<const std::uint64_t> ids) const;
  std::size_t width() const { return width_; }

 private:
  RowKey(std::uint64_t first_id, std::size_t rows, std::span<const float> values);
  MergedRows merge(const Arithmetic& arithmetic, std::span<const RowGradient> gradients);
  Status step(const Arithmetic& arithmetic, std::size_t merged);
  void begin_state(const Arithmetic& arithmetic);

  std::uint64_t first_id_;
  std::size_t rows_;
  std::size_t width_;
  std::vector<float> parameters_;
  std::vector<float> state_[kMaxRowPlanes];
  std::uint64_t generation_ = 0;  // of state_; 0: none
  std::uint64_t steps_ = 0;
  std::vector<std::uint64_t> sorting_;
  std::vector<std::uint32_t> merged_rows_;
  std::vector<float> sums_;
};

}  // namespace penstock::kvserver

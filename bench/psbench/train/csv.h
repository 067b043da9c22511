// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A labelled data set from a text file: one sample per line, numbers separated by commas, the
// class (0, 1, …) last.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transport/base/status.h"

namespace penstock::psbench {

inline constexpr std::uint32_t kMaxClasses = 1000;
inline constexpr std::size_t kMaxFeatures = 1U << 20;

struct Dataset {
  std::size_t features = 0;
  std::uint32_t classes = 0;          // largest label + 1
  std::vector<float> values;          // [rows][features]
  std::vector<std::uint32_t> labels;  // [rows]

  std::size_t rows() const { return labels.size(); }
  std::span<const float> row(std::size_t index) const {
    return {values.data() + index * features, features};
  }
};

// Reads the file. kSystem when it cannot be read; kInvalidArgument "FILE:LINE: why" for a row that
// is not numbers, not finite, of another length than the first, or without a class; "FILE: …" when
// there are no rows. Blank lines are skipped.
Result<Dataset> read_csv(const std::string& path);

// Divides all values by the largest magnitude among them, so that they lie in [−1, 1].
void scale_to_unit(Dataset& data);

}  // namespace penstock::psbench

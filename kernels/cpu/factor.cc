// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cpu/norms.h"
#include "kernels/math/half.h"

// adafactor's passes: plain loops along the rows of the matrix, in the order of the elements.

namespace penstock {
namespace {

// A stretch of one row: elements [begin, begin + count) of the slice.
struct Stretch {
  std::size_t begin, count;
  std::uint64_t row;           // in all matrices of the tensor
  std::uint64_t first_column;  // likewise, of the stretch's first element
};

template <class Visitor>
void along_rows(const FactorArgs& args, const Visitor& visit) {
  for (std::size_t begin = 0; begin < args.count;) {
    const std::uint64_t element = args.first + begin;
    const std::uint64_t row = element / args.columns;
    const std::uint64_t column = element % args.columns;
    const std::size_t count = std::min<std::uint64_t>(args.count - begin, args.columns - column);
    visit(Stretch{begin, count, row, row / args.rows * args.columns + column});
    begin += count;
  }
}

// Calls `visit(u, i)` for the elements of the slice.
template <class Visitor>
void along_steps(const FactorArgs& args, const Visitor& visit) {
  along_rows(args, [&](const Stretch& stretch) {
    const float gain = args.row_gain[stretch.row];
    const float* const column_gain = args.column_gain + stretch.first_column;
    for (std::size_t i = 0; i < stretch.count; ++i) {
      const float g = args.sums[stretch.begin + i] * args.scale;
      visit(g * gain * column_gain[i], stretch.begin + i);
    }
  });
}

}  // namespace

void factor_sums(const FactorArgs& args) {
  along_rows(args, [&](const Stretch& stretch) {
    double row[kNormLanes] = {};
    double* const columns = args.column_sums + stretch.first_column;
    for (std::size_t i = 0; i < stretch.count; ++i) {
      const auto g = static_cast<double>(args.sums[stretch.begin + i] * args.scale);
      row[i % kNormLanes] += g * g;
      columns[i] += g * g;
    }
    args.row_sums[stretch.row] += add_up(row);
  });
}

double factor_norm(const FactorArgs& args) {
  double sums[kNormLanes] = {};
  along_steps(args, [&](float u, std::size_t i) {
    sums[i % kNormLanes] += static_cast<double>(u) * static_cast<double>(u);
  });
  return add_up(sums);
}

void factor_apply(const FactorArgs& args, float step_gain, float decay_gain) {
  along_steps(args, [&](float u, std::size_t i) {
    float& p = args.parameters[i];
    p = canonical(p + (step_gain * u + decay_gain * p));
  });
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/rows.h"
#include "transport/base/check.h"

namespace penstock {

// CHECKs what RowUpdateArgs demands. Returns how many of args.rows the table has: the first ones.
inline std::size_t present_rows(const RowCoefficients& coefficients, const RowUpdateArgs& args) {
  const RowTable& table = args.table;
  const RowPlanes planes = row_planes(coefficients);
  CHECK(table.width > 0 && table.rows <= kMaxRows, "{} rows of {}", table.rows, table.width);
  CHECK(table.parameters.data != nullptr && table.parameters.stride >= table.width);
  for (std::uint32_t s = 0; s < planes.elements + planes.scalars; ++s)
    CHECK(table.state[s].data != nullptr &&
              table.state[s].stride >= (s < planes.elements ? table.width : 1),
          "state plane {}, stride {}", s, table.state[s].stride);
  bool ascend = true;
  for (std::size_t i = 1; i < args.count; ++i) ascend &= args.rows[i - 1] < args.rows[i];
  CHECK(ascend, "rows do not ascend strictly: merge them first");
  std::size_t present = args.count;
  while (present > 0 && args.rows[present - 1] >= table.rows) --present;
  return present;
}

}  // namespace penstock

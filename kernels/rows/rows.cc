// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows.h"

#include <hwy/targets.h>

#include <array>

#include "kernels/rows/scalar.h"
#include "kernels/rows/vector.h"
#include "transport/base/check.h"

namespace penstock {
namespace {

inline constexpr std::size_t kMaxTables = 8;

struct Tables {
  std::array<const RowKernels*, kMaxTables> list{};
  std::size_t count = 0;
};

Tables list_tables() {
  Tables tables;
  tables.list[tables.count++] = &scalar::kRowKernels;
  const std::int64_t supported = hwy::SupportedTargets();
  for (const VectorRowTarget& target : vector_row_targets()) {
    if ((supported & target.bit) == 0) continue;
    CHECK(tables.count < kMaxTables);
    tables.list[tables.count++] = target.kernels;
  }
  return tables;
}

}  // namespace

std::span<const RowKernels* const> available_row_kernels() {
  static const Tables tables = list_tables();  // what the CPU can do: constant once known
  return {tables.list.data(), tables.count};
}

const RowKernels& best_row_kernels() { return *available_row_kernels().back(); }

const RowKernels* find_row_kernels(std::string_view target) {
  for (const RowKernels* table : available_row_kernels())
    if (target == table->target) return table;
  return nullptr;
}

}  // namespace penstock

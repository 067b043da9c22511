// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/table.h"

#include <hwy/targets.h>

#include <array>

#include "kernels/cpu/scalar.h"
#include "kernels/cpu/vector.h"

namespace penstock {
namespace {

inline constexpr std::size_t kMaxTables = 8;

struct Tables {
  std::array<const KernelTable*, kMaxTables> list{};
  std::size_t count = 0;
};

Tables list_tables() {
  Tables tables;
  tables.list[tables.count++] = &scalar::kKernels;
  const std::int64_t supported = hwy::SupportedTargets();
  for (const VectorTarget& target : vector_targets()) {
    if ((supported & target.bit) == 0) continue;
    CHECK(tables.count < kMaxTables);
    tables.list[tables.count++] = target.kernels;
  }
  return tables;
}

}  // namespace

std::span<const KernelTable* const> available_kernels() {
  static const Tables tables = list_tables();  // what the CPU can do: constant once known
  return {tables.list.data(), tables.count};
}

const KernelTable& best_kernels() { return *available_kernels().back(); }

const KernelTable* find_kernels(std::string_view target) {
  for (const KernelTable* table : available_kernels())
    if (target == table->target) return table;
  return nullptr;
}

}  // namespace penstock

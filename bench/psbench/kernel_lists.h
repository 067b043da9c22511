// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The lists that `psbench kernels` takes, as people type them: parts with commas between. Each
// returns kInvalidArgument naming the part it does not know and what it knows.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/table.h"
#include "transport/base/status.h"

namespace penstock::psbench {

struct NamedOptimizer {
  std::string name;  // as typed
  OptimizerSpec spec;
};

// "adamw,sgd", "rmsprop:rho=0.9,momentum=0.9,lion" (numbers belong to the name before them), or
// "all": every kind with its usual numbers.
Result<std::vector<NamedOptimizer>> parse_optimizers(std::string_view text);

// "fp32,bf16", or "all".
Result<std::vector<DType>> parse_dtypes(std::string_view text);

// "1,8,64", each 1 … kMaxWorkers.
Result<std::vector<std::uint32_t>> parse_worker_counts(std::string_view text);

// "scalar,best", "AVX2", as far as this CPU runs them, or "all".
Result<std::vector<const KernelTable*>> parse_targets(std::string_view text);

}  // namespace penstock::psbench

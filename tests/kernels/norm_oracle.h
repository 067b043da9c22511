// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Optimizers with whole-tensor norms in double, straight from the papers, sharing nothing with
// kernels/norm_step.

#include <cstdint>
#include <vector>

#include "kernels/optimizer.h"

namespace penstock::test {

// A tensor between two steps, in double. adafactor's rows and columns are kept here.
struct OracleTensor {
  std::vector<std::uint64_t> shape;
  std::vector<double> parameters, first, second;  // first: v of lars, m of lamb
  std::vector<double> rows, columns;
};

// One step with the summed and scaled gradient; `group_square` is Σg² over all tensors that are
// clipped together.
void oracle_norm_step(const OptimizerSpec& spec, std::uint64_t step, OracleTensor& tensor,
                      std::vector<double> gradient, double group_square);

}  // namespace penstock::test

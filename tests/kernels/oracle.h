// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The optimizers once more, in double and straight from the papers' and frameworks' formulas,
// sharing nothing with kernels/math.

#include <cstdint>

#include "kernels/optimizer.h"

namespace penstock::test {

// A value and the size of the terms it was made of: rounding errors are relative to the latter.
struct Measured {
  double value = 0;
  double size = 0;
};

struct OracleStep {
  Measured parameter;
  Measured state[kMaxStatePlanes];
};

// One step from the given parameter and state with the summed and scaled gradient.
OracleStep oracle_step(const OptimizerSpec& spec, std::uint64_t step, double parameter,
                       const double* state, double gradient);

}  // namespace penstock::test

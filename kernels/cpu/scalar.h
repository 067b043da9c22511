// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/table.h"

namespace penstock::scalar {

// The plain reference "scalar": the rules on floats, element by element, no vectors, no blocks.
// What every other target must equal bit for bit; also what a CPU without a vector target runs.
extern const KernelTable kKernels;

}  // namespace penstock::scalar

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/rows.h"

namespace penstock::scalar {

// The plain reference: row by row, element by element. What every other target must equal bit for
// bit; also what a CPU without a vector target runs.
extern const RowKernels kRowKernels;

}  // namespace penstock::scalar

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/rows.h"

namespace penstock::cuda {

// Starts the step of the touched rows on `stream` and returns at once: RowKernels::update with
// RowCoverage::kTouched, in device memory, same bits. Rows ascend strictly (two threads would step
// a row twice otherwise); those that the table does not have are passed over, not counted. Returns
// what the launch returned, cudaErrorInvalidValue for kAll.
cudaError_t launch_rows(const RowCoefficients& coefficients, const RowUpdateArgs& args,
                        cudaStream_t stream);

}  // namespace penstock::cuda

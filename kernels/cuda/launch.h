// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/step.h"

namespace penstock::cuda {

// Starts the update of `count` slices, all of `rule` and of one gradient type, on `stream` and
// returns at once; `blocks` is the sum of blocks_of() over them. `slices` is device memory, read
// until the stream has passed. Returns what the launch returned.
cudaError_t launch_update(UpdateRule rule, GradientType gradients, const SliceStep* slices,
                          std::uint32_t count, std::uint32_t blocks, cudaStream_t stream);

}  // namespace penstock::cuda

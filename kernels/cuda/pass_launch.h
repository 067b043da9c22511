// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/pass.h"

namespace penstock::cuda {

// Starts the pass over `count` slices, whose gradients are all of one type (read by kPark alone; by
// kTopK as that codec's), on `stream` and returns at once; `blocks` is the sum of blocks_of() over
// them. `slices` is device memory, read until the stream has passed. Returns what the launch
// returned.
cudaError_t launch_pass(Pass pass, GradientType gradients, const SlicePass* slices,
                        std::uint32_t count, std::uint32_t blocks, cudaStream_t stream);

}  // namespace penstock::cuda

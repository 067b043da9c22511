// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/encode.h"

namespace penstock::cuda {

// Starts the encoding of `count` slices by codecs of this kind on `stream` and returns at once;
// `blocks` is the sum of encode_blocks_of() over them. `slices` is device memory, read until the
// stream has passed. Returns what the launch returned, cudaErrorInvalidValue for kNone.
cudaError_t launch_encode(CodecKind kind, const SliceEncode* slices, std::uint32_t count,
                          std::uint32_t blocks, cudaStream_t stream);

}  // namespace penstock::cuda

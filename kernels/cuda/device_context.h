// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace penstock::cuda {

// The index context of a kernel; host_step.h has the CPU's.
struct DeviceContext {
  __device__ std::uint32_t block() const { return blockIdx.x; }
  __device__ std::uint32_t thread() const { return threadIdx.x; }
};

}  // namespace penstock::cuda

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// GPU memory on its way into a region: which GPU, and how each rail's card reaches it.

#include <memory>
#include <span>
#include <vector>

#include "transport/hardware/cuda_buffer.h"
#include "transport/hardware/gpu_host.h"
#include "transport/hardware/gpu_path.h"
#include "transport/verbs/rail.h"

namespace penstock::verbs {

struct GpuMemory {
  CudaBuffer buffer;
  std::vector<GpuPath> paths;  // by rail; never kStaging
};

// kUnsupported, naming GPU, card and reason, when a rail's card cannot reach the memory itself: any
// rail may carry a connection. Else as CudaBuffer::find().
Result<GpuMemory> find_gpu_memory(const GpuHost& host, std::span<const std::unique_ptr<Rail>> rails,
                                  std::span<std::byte> bytes);

// Registers the buffer in the domain, along its rail's path.
Result<ibv_mr*> register_gpu_memory(Domain& domain, const GpuMemory& memory, unsigned access);

}  // namespace penstock::verbs

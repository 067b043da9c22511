// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/gpu_reach.h"

#include <algorithm>

#include "transport/hardware/gpu_host.h"
#include "transport/hardware/gpu_path.h"

namespace penstock::nccl {

bool reaches_every_gpu(const RdmaPort& port) {
  const Result<GpuHost> host = this_gpu_host();
  if (!host.ok()) return false;
  const Result<std::vector<Gpu>> gpus = list_gpus(*host->cuda);
  if (!gpus.ok() || gpus->empty()) return false;
  return std::all_of(gpus->begin(), gpus->end(), [&](const Gpu& gpu) {
    const auto distance = distance_between(host->pci, gpu.pci, port.device);
    if (!distance) return false;
    return choose_gpu_path({.driver_dmabuf = gpu.dmabuf,
                            .nic_dmabuf = port.dmabuf,
                            .peermem = host->peermem && gpu.direct,
                            .distance = *distance})
               .path != GpuPath::kStaging;
  });
}

}  // namespace penstock::nccl

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/hardware/gpu_host.h"

#include <unistd.h>

namespace penstock {

Result<GpuHost> this_gpu_host() {
  PENSTOCK_ASSIGN_OR_RETURN(const CudaDriver* cuda, system_cuda());
  PENSTOCK_ASSIGN_OR_RETURN(PciMap pci, read_pci_map());
  return GpuHost{cuda, std::move(pci), ::access("/sys/module/nvidia_peermem", F_OK) == 0};
}

}  // namespace penstock

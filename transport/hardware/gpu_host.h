// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What registering GPU memory stands on; this host's, or a test's. The driver outlives it.

#include "transport/hardware/cuda_driver.h"
#include "transport/hardware/pci_map.h"

namespace penstock {

struct GpuHost {
  const CudaDriver* cuda = nullptr;
  PciMap pci;
  bool peermem = false;  // the module nvidia_peermem is loaded
};

// kUnsupported without an NVIDIA driver. Takes as long as hwloc does: once for each device.
Result<GpuHost> this_gpu_host();

}  // namespace penstock

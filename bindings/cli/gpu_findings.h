// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NUMA nodes, network cards and GPUs, and how they reach each other.

#include <span>

#include "bindings/cli/finding.h"
#include "bindings/devices/nccl_library.h"
#include "transport/base/status.h"
#include "transport/hardware/cuda_driver.h"
#include "transport/hardware/pci_map.h"
#include "transport/hardware/rdma_port.h"

namespace penstock::cli {

// NUMA nodes and where each card and GPU is on the PCI tree.
Findings check_pci(const Result<PciMap>& map);

// The path of each GPU's memory to the card nearest to it. `ports` may be empty.
Findings check_gpus(const Result<std::vector<Gpu>>& gpus, const Result<PciMap>& map,
                    std::span<const RdmaPort> ports, bool peermem);

// NCCL, for workers with several GPUs.
Findings check_nccl(const Result<const NcclLibrary*>& library);

}  // namespace penstock::cli

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/hardware/rdma_port.h"

namespace penstock::nccl {

// Whether the port's card reads and writes the memory of every GPU of this host itself. NCCL asks
// for a device, not for a pair of GPU and device, so where one GPU is out of reach NCCL is told
// that none is and stages through host memory. False without GPUs.
bool reaches_every_gpu(const RdmaPort& port);

}  // namespace penstock::nccl

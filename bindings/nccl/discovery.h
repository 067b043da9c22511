// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which network devices NCCL is offered. By the environment:
//   PENSTOCK_NCCL_TRANSPORT   auto (verbs where this host has it, else tcp; the default), verbs,
//   tcp PENSTOCK_NCCL_PORTS       verbs: "mlx5_0:1,mlx5_1:1"; default every active port
//   PENSTOCK_NCCL_INTERFACES  tcp: "eth0,eth1"; default every interface that is up and leads to
//                             other hosts, else lo
// All ranks of a job must come to the same transport.

#include <memory>
#include <vector>

#include "bindings/nccl/net_device.h"

namespace penstock::nccl {

// At least one; else why not. Takes as long as opening the ports does.
Result<std::vector<std::unique_ptr<NetDevice>>> open_net_devices(const Clock& clock);

}  // namespace penstock::nccl

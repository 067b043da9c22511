// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one file that lists the providers.

#include <memory>
#include <string>
#include <vector>

#include "transport/api/device.h"
#include "transport/hardware/rdma_port.h"
#include "transport/loopback/fabric.h"

namespace penstock {

struct DeviceOptions {
  std::string provider = "auto";           // one of provider_names()
  std::string bind_address = "127.0.0.1";  // numeric
  std::string advertise_host;              // what peers connect to; empty: bind_address
  std::vector<std::string> rails;          // verbs: "mlx5_0", "mlx5_0:1"; empty: all active ports
  int gid_index = -1;                      // verbs: −1 takes the best
  Incarnation incarnation = 0;
  LoopbackFabric* fabric = nullptr;  // loopback: the network; outlives the device
};

// Names that open_device() takes.
std::vector<std::string> provider_names();

// kUnsupported for an unknown provider, naming the known ones; else what the provider says.
Result<std::unique_ptr<Device>> open_device(const DeviceOptions& options, const Clock& clock);

// Every RDMA port of this host, as the verbs transport sees it; kUnsupported where it cannot look.
Result<std::vector<RdmaPort>> rdma_ports();

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one file that lists the providers.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/api/device.h"
#include "transport/hardware/rdma_port.h"
#include "transport/loopback/fabric.h"

namespace penstock {

// How data travels, whatever carries it.
struct DataOptions {
  // What leaves this host is encrypted with a key made from the job secret; providers that cannot
  // are refused. Every process of a job does, or none.
  bool encrypt = false;
  bool kernel_tls = false;  // tcp, with encrypt: by the kernel, if it can; needs SIGPIPE ignored
  bool zerocopy = false;    // tcp, without: MSG_ZEROCOPY where the kernel does not copy after all
};

struct DeviceOptions {
  std::string provider = "auto";           // one of provider_names()
  std::string bind_address = "127.0.0.1";  // numeric
  std::string advertise_host = {};         // what peers connect to; empty: bind_address
  std::vector<std::string> rails = {};     // verbs: "mlx5_0", "mlx5_0:1"; empty: all active ports
  int gid_index = -1;                      // verbs: −1 takes the best
  DataOptions data = {};
  // Of data.encrypt; read while the device opens, not kept.
  std::span<const unsigned char> secret = {};
  Incarnation incarnation = 0;
  LoopbackFabric* fabric = nullptr;  // loopback: the network; outlives the device
};

// Names that open_device() takes.
std::vector<std::string> provider_names();

// kUnsupported for an unknown provider, naming the known ones, and for one that cannot encrypt what
// it shall; kInvalidArgument for options that exclude one another. What open_device() sees first.
Status validate(const DataOptions& data, const std::string& provider);

// As validate(); kUnauthenticated when it shall encrypt without a secret; else what the provider
// says.
Result<std::unique_ptr<Device>> open_device(const DeviceOptions& options, const Clock& clock);

// Every RDMA port of this host, as the verbs transport sees it; kUnsupported where it cannot look.
Result<std::vector<RdmaPort>> rdma_ports();

}  // namespace penstock

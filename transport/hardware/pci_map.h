// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where network cards and GPUs sit on the PCI tree, from hwloc.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/status.h"

namespace penstock {

// What is nearest above both of two devices; nearer compares less.
enum class PciDistance : std::uint8_t { kSwitch, kHostBridge, kNumaNode, kMachine };
std::string_view pci_distance_name(PciDistance distance);  // "PCI switch", "host bridge", …

struct PciDevice {
  std::string address;  // "0000:17:00.0"
  std::string rdma;     // "mlx5_0"; empty when it has no RDMA device
  std::string net;      // "eth0"; empty when it has no network device
  std::string name;     // what the PCI database calls it; may be empty
  int numa_node = -1;   // operating system's number; −1 unknown
};

struct PciMap {
  unsigned numa_nodes = 0;
  std::vector<PciDevice> nics;
  std::vector<PciDevice> gpus;
  std::vector<std::vector<PciDistance>> distances;  // [gpu][nic]
};

// Between the GPU at this address and the card with this RDMA device; none when the map lacks one.
std::optional<PciDistance> distance_between(const PciMap& map, std::string_view gpu_address,
                                            std::string_view rdma);

// This machine's. kSystem when hwloc cannot read it.
Result<PciMap> read_pci_map();
// Of a machine described in hwloc's XML (lstopo --whole-io machine.xml).
Result<PciMap> read_pci_map_xml(const std::string& xml);

}  // namespace penstock

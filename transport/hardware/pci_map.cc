// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/hardware/pci_map.h"

#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <cerrno>

namespace penstock {
namespace {

class Topology {
 public:
  Topology() {
    if (hwloc_topology_init(&topology_) != 0) topology_ = nullptr;
  }
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;
  ~Topology() {
    if (topology_ != nullptr) hwloc_topology_destroy(topology_);
  }
  hwloc_topology_t get() const { return topology_; }

 private:
  hwloc_topology_t topology_ = nullptr;
};

constexpr unsigned kDisplayController = 0x03;  // PCI base class
constexpr unsigned kAccelerator = 0x12;

bool is_gpu(const hwloc_obj& object) {
  const unsigned base_class = object.attr->pcidev.class_id >> 8U;
  return base_class == kDisplayController || base_class == kAccelerator;
}

PciDevice describe(hwloc_topology_t topology, hwloc_obj_t object) {
  const auto& pci = object->attr->pcidev;
  PciDevice device;
  device.address = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, unsigned{pci.bus},
                               unsigned{pci.dev}, unsigned{pci.func});
  if (object->name != nullptr) device.name = object->name;
  for (hwloc_obj_t child = object->io_first_child; child != nullptr; child = child->next_sibling) {
    if (child->type != HWLOC_OBJ_OS_DEVICE || child->name == nullptr) continue;
    if (child->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS) device.rdma = child->name;
    if (child->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK) device.net = child->name;
  }
  hwloc_obj_t home = hwloc_get_non_io_ancestor_obj(topology, object);
  if (home != nullptr && home->nodeset != nullptr && hwloc_bitmap_weight(home->nodeset) == 1)
    device.numa_node = hwloc_bitmap_first(home->nodeset);
  return device;
}

// hwloc's own search for a common ancestor does not work for I/O objects.
hwloc_obj_t common_ancestor(hwloc_obj_t a, hwloc_obj_t b) {
  for (hwloc_obj_t above = a->parent; above != nullptr; above = above->parent)
    for (hwloc_obj_t other = b->parent; other != nullptr; other = other->parent)
      if (above == other) return above;
  return nullptr;
}

PciDistance distance_of(hwloc_obj_t a, hwloc_obj_t b) {
  hwloc_obj_t shared = common_ancestor(a, b);
  if (shared == nullptr) return PciDistance::kMachine;
  if (shared->type == HWLOC_OBJ_BRIDGE)
    return shared->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI ? PciDistance::kSwitch
                                                                      : PciDistance::kHostBridge;
  return shared->nodeset != nullptr && hwloc_bitmap_weight(shared->nodeset) <= 1
             ? PciDistance::kNumaNode
             : PciDistance::kMachine;
}

Result<PciMap> read(const std::string* xml) {
  const Topology owner;
  hwloc_topology_t topology = owner.get();
  if (topology == nullptr) return Status::system("start hwloc", errno);
  if (xml != nullptr &&
      hwloc_topology_set_xmlbuffer(topology, xml->c_str(), static_cast<int>(xml->size()) + 1) != 0)
    return Status(Code::kInvalidArgument, "hwloc does not read this XML").with_system(errno);
  // Bridges are what distances are measured by.
  hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (hwloc_topology_load(topology) != 0)
    return Status::system("read the machine's topology with hwloc", errno);

  PciMap map;
  map.numa_nodes =
      static_cast<unsigned>(std::max(0, hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE)));
  std::vector<hwloc_obj_t> nics, gpus;
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_pcidev(topology, object)) != nullptr;) {
    PciDevice device = describe(topology, object);
    if (is_gpu(*object)) {
      gpus.push_back(object);
      map.gpus.push_back(std::move(device));
    } else if (!device.rdma.empty() || !device.net.empty()) {
      nics.push_back(object);
      map.nics.push_back(std::move(device));
    }
  }
  for (hwloc_obj_t gpu : gpus) {
    std::vector<PciDistance>& row = map.distances.emplace_back();
    for (hwloc_obj_t nic : nics) row.push_back(distance_of(gpu, nic));
  }
  return map;
}

}  // namespace

std::string_view pci_distance_name(PciDistance distance) {
  switch (distance) {
    case PciDistance::kSwitch:
      return "PCI switch";
    case PciDistance::kHostBridge:
      return "host bridge";
    case PciDistance::kNumaNode:
      return "NUMA node";
    case PciDistance::kMachine:
      break;
  }
  return "machine";
}

std::optional<PciDistance> distance_between(const PciMap& map, std::string_view gpu_address,
                                            std::string_view rdma) {
  for (std::size_t gpu = 0; gpu < map.gpus.size(); ++gpu)
    for (std::size_t nic = 0; nic < map.nics.size(); ++nic)
      if (map.gpus[gpu].address == gpu_address && map.nics[nic].rdma == rdma)
        return map.distances[gpu][nic];
  return {};
}

Result<PciMap> read_pci_map() { return read(nullptr); }
Result<PciMap> read_pci_map_xml(const std::string& xml) { return read(&xml); }

}  // namespace penstock

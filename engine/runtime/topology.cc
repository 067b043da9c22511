// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/topology.h"

#include <hwloc.h>

#include <cerrno>

namespace penstock {

struct Topology::Handle {
  hwloc_topology_t topology = nullptr;
  ~Handle() {
    if (topology != nullptr) hwloc_topology_destroy(topology);
  }
};

Topology::~Topology() = default;

Result<std::unique_ptr<Topology>> Topology::load() {
  std::unique_ptr<Topology> self(new Topology());
  self->handle_ = std::make_unique<Handle>();
  hwloc_topology_t& topology = self->handle_->topology;
  if (hwloc_topology_init(&topology) != 0 || hwloc_topology_load(topology) != 0)
    return Status::system("read the machine's topology with hwloc", errno);

  hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
  if (hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS) != 0)
    hwloc_bitmap_copy(allowed, hwloc_topology_get_allowed_cpuset(topology));
  const int cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
  // The k-th processor of every core, then the (k+1)-th: siblings come last.
  for (unsigned sibling = 0, found = 1; found > 0; ++sibling) {
    found = 0;
    for (int i = 0; i < cores; ++i) {
      hwloc_obj_t core = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, static_cast<unsigned>(i));
      hwloc_obj_t unit =
          hwloc_get_obj_inside_cpuset_by_type(topology, core->cpuset, HWLOC_OBJ_PU, sibling);
      if (unit == nullptr) continue;
      ++found;
      if (hwloc_bitmap_isset(allowed, unit->os_index) != 0)
        self->cpus_.push_back(static_cast<int>(unit->os_index));
    }
  }
  hwloc_bitmap_free(allowed);
  const int nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
  self->numa_nodes_ = nodes > 0 ? static_cast<std::uint32_t>(nodes) : 1;
  return self;
}

std::vector<int> Topology::plan_lanes(std::uint32_t lanes, std::uint32_t first) const {
  if (std::size_t{first} + lanes > cpus_.size()) return {};
  return {cpus_.begin() + first, cpus_.begin() + first + lanes};
}

void Topology::bind_near(int cpu, std::span<std::byte> bytes) const {
  if (cpu < 0 || numa_nodes_ < 2 || bytes.empty()) return;
  hwloc_obj_t unit = hwloc_get_pu_obj_by_os_index(handle_->topology, static_cast<unsigned>(cpu));
  if (unit == nullptr) return;
  hwloc_set_area_membind(handle_->topology, bytes.data(), bytes.size(), unit->nodeset,
                         HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET);
}

}  // namespace penstock

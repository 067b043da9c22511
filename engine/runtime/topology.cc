// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/topology.h"

#include <hwloc.h>

#include <cerrno>

namespace penstock {

namespace {

struct Handle {
  hwloc_topology_t topology = nullptr;
  ~Handle() {
    if (topology != nullptr) hwloc_topology_destroy(topology);
  }
};

}  // namespace

Result<std::unique_ptr<Topology>> Topology::load() {
  std::unique_ptr<Topology> self(new Topology());
  Handle handle;
  hwloc_topology_t& topology = handle.topology;
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
  return self;
}

std::vector<int> Topology::plan_lanes(std::uint32_t lanes, std::uint32_t first) const {
  if (std::size_t{first} + lanes > cpus_.size()) return {};
  return {cpus_.begin() + first, cpus_.begin() + first + lanes};
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which processors lanes run on, from hwloc. Only processors in the process's cpuset are
// considered, so containers and taskset are obeyed. Memory follows: a pinned lane is the first to
// touch its slots and parameters, so the system places them on the lane's NUMA node.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transport/base/status.h"

namespace penstock {

// Thread: construct once, then read from any.
class Topology {
 public:
  // kSystem when hwloc cannot read this machine.
  static Result<std::unique_ptr<Topology>> load();
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;

  // Processors (operating-system numbers) this process may use, one per core first, then siblings.
  const std::vector<int>& cpus() const { return cpus_; }

  // A processor for each of `lanes` lanes, starting with the `first`-th; empty when there are not
  // enough, and then lanes float (the caller says so).
  std::vector<int> plan_lanes(std::uint32_t lanes, std::uint32_t first) const;

 private:
  Topology() = default;
  std::vector<int> cpus_;
};

}  // namespace penstock

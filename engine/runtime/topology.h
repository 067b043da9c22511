// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which processors lanes run on, from hwloc. Only processors in the process's cpuset are
// considered, so containers and taskset are obeyed.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/base/status.h"

namespace penstock {

// Thread: construct once, then read from any.
class Topology {
 public:
  // kSystem when hwloc cannot read this machine.
  static Result<std::unique_ptr<Topology>> load();
  ~Topology();
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;

  // Processors (operating-system numbers) this process may use, one per core first, then siblings.
  const std::vector<int>& cpus() const { return cpus_; }
  std::uint32_t numa_nodes() const { return numa_nodes_; }

  // A processor for each of `lanes` lanes, starting with the `first`-th; empty when there are not
  // enough, and then lanes float (the caller says so).
  std::vector<int> plan_lanes(std::uint32_t lanes, std::uint32_t first) const;

  // Asks for the bytes to live on the NUMA node of `cpu`; a wish, refused quietly by some
  // containers. No effect with one node or cpu < 0.
  void bind_near(int cpu, std::span<std::byte> bytes) const;

 private:
  Topology() = default;
  struct Handle;
  std::unique_ptr<Handle> handle_;
  std::vector<int> cpus_;
  std::uint32_t numa_nodes_ = 1;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/hardware/gpu_path.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace penstock {

std::string_view gpu_path_name(GpuPath path) {
  switch (path) {
    case GpuPath::kDmabuf:
      return "dma-buf";
    case GpuPath::kPeermem:
      return "peermem";
    case GpuPath::kStaging:
      break;
  }
  return "pinned staging";
}

GpuPathChoice choose_gpu_path(const GpuPathFacts& facts) {
  // Peer-to-peer traffic between sockets crawls through their interconnect on most machines; two
  // copies through host memory do not.
  if (facts.distance == PciDistance::kMachine)
    return {GpuPath::kStaging, "the GPU and the card are on different NUMA nodes"};
  const std::string near = fmt::format("they share a {}", pci_distance_name(facts.distance));
  if (facts.driver_dmabuf && facts.nic_dmabuf == DmabufSupport::kYes)
    return {GpuPath::kDmabuf, "driver and card both speak dma-buf, and " + near};
  const std::string no_dmabuf =
      facts.driver_dmabuf ? "the card registers no dma-buf" : "the driver exports no dma-buf";
  if (facts.peermem)
    return {GpuPath::kPeermem,
            fmt::format("{}, nvidia_peermem is loaded, and {}", no_dmabuf, near)};
  return {GpuPath::kStaging, no_dmabuf + " and nvidia_peermem is not loaded"};
}

DmabufSupport dmabuf_support(int error) {
  if (error == EBADF) return DmabufSupport::kYes;
  if (error == EOPNOTSUPP || error == EPROTONOSUPPORT || error == ENOSYS) return DmabufSupport::kNo;
  return DmabufSupport::kUnknown;
}

int choose_nic(std::size_t gpu, std::span<const PciDistance> distances) {
  if (distances.empty()) return -1;
  const PciDistance nearest = *std::min_element(distances.begin(), distances.end());
  auto turn =
      gpu % static_cast<std::size_t>(std::count(distances.begin(), distances.end(), nearest));
  std::size_t nic = 0;
  while (distances[nic] != nearest || turn-- > 0) ++nic;
  return static_cast<int>(nic);
}

}  // namespace penstock

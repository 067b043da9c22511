// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cli/gpu_findings.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/hardware/gpu_path.h"

namespace penstock::cli {
namespace {

std::string label(const PciDevice& device) {
  if (!device.rdma.empty()) return device.rdma;
  return device.net.empty() ? device.address : device.net;
}

std::string place(const PciDevice& device) {
  std::string text = device.address;
  if (!device.name.empty()) text += ", " + device.name;
  if (device.numa_node >= 0) text += fmt::format(", NUMA node {}", device.numa_node);
  return text;
}

Finding check_gpu(const Gpu& gpu, const PciMap& map, std::span<const RdmaPort> ports,
                  bool peermem) {
  Finding finding{fmt::format("gpu.{}", gpu.ordinal),
                  Level::kNote,
                  fmt::format("{} at {}", gpu.name, gpu.pci),
                  {}};
  const auto here = std::find_if(map.gpus.begin(), map.gpus.end(),
                                 [&](const PciDevice& each) { return each.address == gpu.pci; });
  // Only cards with RDMA can reach it at all.
  std::vector<const PciDevice*> cards;
  std::vector<PciDistance> distances;
  for (std::size_t i = 0; here != map.gpus.end() && i < map.nics.size(); ++i) {
    if (map.nics[i].rdma.empty()) continue;
    cards.push_back(&map.nics[i]);
    distances.push_back(map.distances[static_cast<std::size_t>(here - map.gpus.begin())][i]);
  }
  const int chosen = choose_nic(static_cast<std::size_t>(gpu.ordinal), distances);
  if (chosen < 0) {
    finding.found += ": no RDMA card on its PCI tree, so its data goes through host memory";
    return finding;
  }
  const auto index = static_cast<std::size_t>(chosen);
  GpuPathFacts facts{.driver_dmabuf = gpu.dmabuf,
                     .nic_dmabuf = DmabufSupport::kUnknown,
                     .peermem = peermem && gpu.direct,
                     .distance = distances[index]};
  for (const RdmaPort& port : ports)
    if (port.device == cards[index]->rdma) facts.nic_dmabuf = port.dmabuf;
  const GpuPathChoice choice = choose_gpu_path(facts);
  finding.found += fmt::format(": {} to {}, because {}", gpu_path_name(choice.path),
                               cards[index]->rdma, choice.why);
  if (choice.path != GpuPath::kStaging) {
    finding.level = Level::kOk;
  } else if (facts.distance == PciDistance::kMachine) {
    finding.fix = "a card in a slot of the GPU's own NUMA node";
  } else {
    finding.fix =
        "NVIDIA's open kernel modules with Linux 5.12 or newer (dma-buf), or modprobe "
        "nvidia_peermem";
  }
  return finding;
}

}  // namespace

Findings check_pci(const Result<PciMap>& map) {
  if (!map.ok()) return {{"pci", Level::kNote, map.status().to_string(), map.status().hint()}};
  Findings findings{
      {"numa", Level::kOk,
       fmt::format("{} NUMA node{}", map->numa_nodes, map->numa_nodes == 1 ? "" : "s"), ""}};
  for (const PciDevice& nic : map->nics)
    findings.push_back({"pci.nic." + label(nic), Level::kOk, place(nic), ""});
  for (std::size_t gpu = 0; gpu < map->gpus.size(); ++gpu) {
    std::string text = place(map->gpus[gpu]);
    const int nearest = choose_nic(gpu, map->distances[gpu]);
    if (nearest >= 0) {
      const auto nic = static_cast<std::size_t>(nearest);
      text += fmt::format("; nearest card {}, over the {}", label(map->nics[nic]),
                          pci_distance_name(map->distances[gpu][nic]));
    }
    findings.push_back({"pci.gpu." + map->gpus[gpu].address, Level::kOk, text, ""});
  }
  if (map->nics.empty() && map->gpus.empty())
    findings.push_back(
        {"pci", Level::kNote, "no network card or GPU on a PCI bus that can be seen", ""});
  return findings;
}

Findings check_gpus(const Result<std::vector<Gpu>>& gpus, const Result<PciMap>& map,
                    std::span<const RdmaPort> ports, bool peermem) {
  if (!gpus.ok()) return {{"gpu", Level::kNote, gpus.status().what(), gpus.status().hint()}};
  if (gpus->empty()) return {{"gpu", Level::kNote, "the NVIDIA driver has no GPU", ""}};
  Findings findings;
  for (const Gpu& gpu : *gpus)
    findings.push_back(check_gpu(gpu, map.ok() ? *map : PciMap{}, ports, peermem));
  return findings;
}

Findings check_nccl(const Result<const NcclLibrary*>& library) {
  const Result<std::string> version = library.ok() ? nccl_version(**library) : library.status();
  if (!version.ok())
    return {{"gpu.nccl", Level::kNote, version.status().what(), version.status().hint()}};
  return {{"gpu.nccl", Level::kOk, "NCCL " + *version + ", for workers with several GPUs", ""}};
}

}  // namespace penstock::cli

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/gpu_memory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <optional>

#include "transport/base/log.h"
#include "transport/verbs/port_query.h"
#include "transport/verbs/region.h"

namespace penstock::verbs {
namespace {

std::string device_of(const Rail& rail) {  // "mlx5_0:1" → "mlx5_0"
  return rail.name().substr(0, rail.name().rfind(':'));
}

Result<DmabufSupport> ask(Rail& rail) {
  PENSTOCK_ASSIGN_OR_RETURN(Domain * domain, rail.acquire(kAnyScope));
  const DmabufSupport support = probe_dmabuf(rail.api(), domain->pd);
  rail.release(domain);
  return support;
}

Result<GpuPathChoice> choose(const GpuHost& host, const Gpu& gpu, Rail& rail) {
  const std::optional<PciDistance> distance = distance_between(host.pci, gpu.pci, device_of(rail));
  if (!distance) return GpuPathChoice{GpuPath::kStaging, "they have no place on one PCI tree"};
  PENSTOCK_ASSIGN_OR_RETURN(const DmabufSupport dmabuf, ask(rail));
  return choose_gpu_path({.driver_dmabuf = gpu.dmabuf,
                          .nic_dmabuf = dmabuf,
                          .peermem = host.peermem && gpu.direct,
                          .distance = *distance});
}

std::string way_out(const std::vector<std::string>& near) {
  const std::string copy = "use pinned host memory (cuMemHostAlloc) and copy";
  if (near.empty()) return copy + "; penstock doctor says what would make the path direct";
  return fmt::format("{}; or open the device with these rails alone: {}", copy,
                     fmt::join(near, ", "));
}

}  // namespace

Result<GpuMemory> find_gpu_memory(const GpuHost& host, std::span<const std::unique_ptr<Rail>> rails,
                                  std::span<std::byte> bytes) {
  PENSTOCK_ASSIGN_OR_RETURN(CudaBuffer buffer, CudaBuffer::find(*host.cuda, bytes));
  const std::string gpu = buffer.gpu().label();
  GpuMemory memory{std::move(buffer), {}};
  std::vector<std::string> near, far;
  for (const std::unique_ptr<Rail>& rail : rails) {
    PENSTOCK_ASSIGN_OR_RETURN(const GpuPathChoice choice, choose(host, memory.buffer.gpu(), *rail));
    memory.paths.push_back(choice.path);
    const bool direct = choice.path != GpuPath::kStaging;
    PENSTOCK_LOG_DEBUG("{} to {}: {}, because {}", gpu, rail->name(), gpu_path_name(choice.path),
                       choice.why);
    (direct ? near : far)
        .push_back(direct ? rail->name() : fmt::format("{}: {}", rail->name(), choice.why));
  }
  if (far.empty()) return memory;
  return Status(Code::kUnsupported,
                fmt::format("register memory of {}: out of reach of {}", gpu, fmt::join(far, "; ")))
      .with_hint(way_out(near));
}

Result<ibv_mr*> register_gpu_memory(Domain& domain, const GpuMemory& memory, unsigned access) {
  const std::span<std::byte> bytes = memory.buffer.bytes();
  if (memory.paths[domain.rail.index()] == GpuPath::kPeermem)
    return register_bytes(domain, bytes, access);
  PENSTOCK_ASSIGN_OR_RETURN(const CudaBuffer::Dmabuf dmabuf, memory.buffer.export_dmabuf());
  ibv_mr* mr = domain.rail.api().ibv_reg_dmabuf_mr(domain.pd, dmabuf.offset, bytes.size(),
                                                   reinterpret_cast<std::uint64_t>(bytes.data()),
                                                   dmabuf.fd.get(), static_cast<int>(access));
  if (mr == nullptr) {
    const int error = errno;
    return Status::system(fmt::format("register {} bytes of {} with {} as a dma-buf", bytes.size(),
                                      memory.buffer.gpu().label(), domain.rail.name()),
                          error)
        .with_hint(way_out({}));
  }
  add(domain.rail.counts().registrations);
  return mr;
}

}  // namespace penstock::verbs

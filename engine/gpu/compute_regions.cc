// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/gpu/compute_regions.h"

namespace penstock {
namespace {

class PinnedRegion final : public MemoryRegion {
 public:
  PinnedRegion(std::unique_ptr<MemoryRegion> registered, std::unique_ptr<ComputeMemory> pinned)
      : registered_(std::move(registered)), pinned_(std::move(pinned)) {}

  std::span<std::byte> bytes() const override { return registered_->bytes(); }
  const RemoteRegion& describe() const override { return registered_->describe(); }
  const MemoryRegion* part(ProviderKind kind) const override { return registered_->part(kind); }

 private:
  std::unique_ptr<MemoryRegion> registered_;  // before its pin: the memory outlives it
  std::unique_ptr<ComputeMemory> pinned_;
};

class ComputeRegion final : public MemoryRegion {
 public:
  explicit ComputeRegion(std::unique_ptr<ComputeMemory> memory) : memory_(std::move(memory)) {}

  std::span<std::byte> bytes() const override { return memory_->bytes(); }
  MemoryKind kind() const override { return MemoryKind::kCuda; }
  const RemoteRegion& describe() const override { return nowhere_; }

 private:
  std::unique_ptr<ComputeMemory> memory_;
  const RemoteRegion nowhere_;
};

class LentRegion final : public MemoryRegion {
 public:
  LentRegion(std::unique_ptr<ComputeMemory> memory, std::unique_ptr<MemoryRegion> registered)
      : memory_(std::move(memory)), registered_(std::move(registered)) {}

  std::span<std::byte> bytes() const override { return registered_->bytes(); }
  MemoryKind kind() const override { return MemoryKind::kCuda; }
  const RemoteRegion& describe() const override { return registered_->describe(); }
  const MemoryRegion* part(ProviderKind kind) const override { return registered_->part(kind); }
  Status flush() const override { return registered_->flush(); }

 private:
  std::unique_ptr<ComputeMemory> memory_;  // before its registration: it outlives it
  std::unique_ptr<MemoryRegion> registered_;
};

}  // namespace

RegionSource pinned_regions(Device& device, ComputeDevice& compute) {
  return [&device, &compute](std::size_t bytes, Access access,
                             PeerScope scope) -> Result<std::unique_ptr<MemoryRegion>> {
    PENSTOCK_ASSIGN_OR_RETURN(auto registered, device.allocate_memory(bytes, access, scope));
    PENSTOCK_ASSIGN_OR_RETURN(auto pinned, compute.pin(registered->bytes()));
    return std::unique_ptr<MemoryRegion>(
        std::make_unique<PinnedRegion>(std::move(registered), std::move(pinned)));
  };
}

RegionSource compute_regions(ComputeDevice& compute) {
  return [&compute](std::size_t bytes, Access, PeerScope) -> Result<std::unique_ptr<MemoryRegion>> {
    PENSTOCK_ASSIGN_OR_RETURN(auto memory, compute.allocate(bytes));
    return std::unique_ptr<MemoryRegion>(std::make_unique<ComputeRegion>(std::move(memory)));
  };
}

RegionSource lent_compute_regions(Device& device, ComputeDevice& compute) {
  return [&device, &compute](std::size_t bytes, Access access,
                             PeerScope scope) -> Result<std::unique_ptr<MemoryRegion>> {
    PENSTOCK_ASSIGN_OR_RETURN(auto memory, compute.allocate(bytes));
    PENSTOCK_ASSIGN_OR_RETURN(
        auto registered, device.register_memory(memory->bytes(), MemoryKind::kCuda, access, scope));
    return std::unique_ptr<MemoryRegion>(
        std::make_unique<LentRegion>(std::move(memory), std::move(registered)));
  };
}

Status takes_compute_memory(Device& device, ComputeDevice& compute) {
  const auto region = lent_compute_regions(device, compute)(SlabPool::kMinSlabBytes,
                                                            Access::kRemoteWrite, kAnyScope);
  PENSTOCK_RETURN_IF_ERROR(region.status());
  if (!(*region)->describe().reachable_by(device.kind()))
    return Status(Code::kUnsupported, std::string(provider_name(device.kind())) +
                                          " lends GPU memory but does not write into it");
  return (*region)->flush();
}

}  // namespace penstock

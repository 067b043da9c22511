// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/api/device.h"

#include <string>

#include "transport/base/host_memory.h"

namespace penstock {
namespace {

// Plain pages and their registration, in one owner.
class AllocatedRegion final : public MemoryRegion {
 public:
  AllocatedRegion(HostMemory memory, std::unique_ptr<MemoryRegion> registered)
      : memory_(std::move(memory)), registered_(std::move(registered)) {}

  std::span<std::byte> bytes() const override { return registered_->bytes(); }
  const RemoteRegion& describe() const override { return registered_->describe(); }
  const MemoryRegion* part(ProviderKind kind) const override { return registered_->part(kind); }

 private:
  HostMemory memory_;  // before its registration: it outlives it
  std::unique_ptr<MemoryRegion> registered_;
};

}  // namespace

Status host_memory_only(ProviderKind provider) {
  return Status(Code::kUnsupported, "register memory: " + std::string(provider_name(provider)) +
                                        " takes host memory only")
      .with_hint(
          "verbs registers GPU memory, shm lends it to processes of this host; else copy it to "
          "pinned host memory (cuMemHostAlloc) and register that");
}

Result<std::unique_ptr<MemoryRegion>> Device::allocate_memory(std::size_t bytes, Access access,
                                                              PeerScope scope) {
  PENSTOCK_ASSIGN_OR_RETURN(HostMemory memory, HostMemory::allocate(bytes));
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<MemoryRegion> registered,
                            register_memory(memory.bytes(), MemoryKind::kHost, access, scope));
  return std::unique_ptr<MemoryRegion>(
      std::make_unique<AllocatedRegion>(std::move(memory), std::move(registered)));
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/net_device.h"

#include <fmt/format.h>

namespace penstock::nccl {

std::uint64_t MemoryHandle::offset_of(const void* data) const {
  return reinterpret_cast<std::uintptr_t>(data) -
         reinterpret_cast<std::uintptr_t>(buffer.region->bytes().data());
}

Status MemoryHandle::check(const void* data, std::uint64_t bytes) const {
  const std::uint64_t held = buffer.region->bytes().size();
  const std::uint64_t offset = offset_of(data);  // huge when before it
  if (offset <= held && bytes <= held - offset) return {};
  return Status(Code::kInvalidArgument,
                fmt::format("{} bytes at {} are not inside the {} registered at {}", bytes, data,
                            held, fmt::ptr(buffer.region->bytes().data())));
}

NetDevice::NetDevice(PortFacts facts, std::unique_ptr<Device> device, const Clock& clock)
    : facts_(std::move(facts)),
      transport_(std::move(device)),
      clock_(clock),
      host_memory_(*transport_),
      gpu_memory_(*transport_, [](const void*) { return MemoryKind::kCuda; }) {}

void NetDevice::progress() {
  // Acquire and release: what one thread left in the device the next one finds.
  if (progressing_.test_and_set(std::memory_order_acquire)) return;
  transport_->progress();
  progressing_.clear(std::memory_order_release);
}

Result<std::unique_ptr<MemoryHandle>> NetDevice::register_memory(std::span<std::byte> bytes,
                                                                 bool cuda, Access access) {
  auto handle = std::make_unique<MemoryHandle>();
  PENSTOCK_ASSIGN_OR_RETURN(handle->buffer,
                            (cuda ? gpu_memory_ : host_memory_).acquire(bytes, access));
  handle->access = access;
  handle->device = this;
  return handle;
}

}  // namespace penstock::nccl

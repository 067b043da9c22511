// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One network device as NCCL counts them: a port with the transport opened on it, and the memory
// registered there. Lives as long as the plugin is loaded; every connection on it is closed before.

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "engine/runtime/region_cache.h"
#include "transport/api/device.h"

namespace penstock::nccl {

struct PortFacts {
  std::string name;      // "mlx5_0:1", "eth0"
  std::string pci_path;  // in /sys; empty where the port is no PCI device
  std::uint64_t guid = 0;
  int speed_mbps = 0;
  int port = 1;
  bool reaches_gpus = false;  // every GPU's memory, without staging
};

// Registered memory as NCCL holds it.
struct MemoryHandle {
  RegisteredBuffer buffer;
  Access access{};
  const void* device = nullptr;        // the NetDevice
  std::atomic<std::uint32_t> uses{0};  // by requests in flight

  std::uint64_t offset_of(const void* data) const;
  // kInvalidArgument unless all of it lies in here.
  Status check(const void* data, std::uint64_t bytes) const;
};

// Threads: any.
class NetDevice {
 public:
  NetDevice(PortFacts facts, std::unique_ptr<Device> device, const Clock& clock);

  const PortFacts& facts() const { return facts_; }
  Device& transport() { return *transport_; }
  const Clock& clock() const { return clock_; }

  // Lets new connections in and hears what the port reports. Who comes while another thread is at
  // it goes on without.
  void progress();

  // `cuda`: NCCL says that it is memory of a GPU.
  Result<std::unique_ptr<MemoryHandle>> register_memory(std::span<std::byte> bytes, bool cuda,
                                                        Access access);

 private:
  const PortFacts facts_;
  const std::unique_ptr<Device> transport_;
  const Clock& clock_;
  RegionCache host_memory_, gpu_memory_;
  std::atomic_flag progressing_;
};

}  // namespace penstock::nccl

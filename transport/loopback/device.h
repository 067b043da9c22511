// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// An opened port of the in-process network.

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "transport/api/device.h"
#include "transport/loopback/region.h"

namespace penstock::loopback {

class LoopbackQueue;
class Switchboard;

class LoopbackDevice final : public Device {
 public:
  static constexpr std::uint32_t kMaxMessageBytes = 4096;  // one page: a table of slots, no payload
  static constexpr std::uint32_t kMaxEndpoints = 65536;
  static constexpr std::uint32_t kMaxSendDepth = 65536;
  static constexpr std::uint32_t kMaxQueueDepth = 1U << 20;

  LoopbackDevice(Switchboard& switchboard, Incarnation incarnation);
  ~LoopbackDevice() override;

  ProviderKind kind() const override { return ProviderKind::kLoopback; }
  const Capabilities& capabilities() const override { return capabilities_; }
  const std::string& address() const override { return address_; }
  Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, MemoryKind kind,
                                                        Access access, PeerScope scope) override;
  Result<std::unique_ptr<MemoryRegion>> allocate_memory(std::size_t bytes, Access access,
                                                        PeerScope scope) override;
  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(std::uint32_t depth) override;
  Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue, const std::string& address,
                                            const EndpointOptions& options) override;
  Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                           const EndpointOptions& options) override;
  std::size_t progress() override { return 0; }  // connections meet on the switchboard
  int fd() const override { return -1; }

  // For the parts of this folder; any thread.
  Incarnation incarnation() const { return incarnation_; }
  RegionTable& regions() { return regions_; }
  const RegionTable& regions() const { return regions_; }
  Switchboard& switchboard() { return switchboard_; }
  const Clock& clock() const;
  std::size_t live_endpoints() const { return endpoints_.load(std::memory_order_relaxed); }
  void count_endpoint(int change) { endpoints_.fetch_add(static_cast<unsigned>(change)); }
  void add_queue(LoopbackQueue& queue);
  void remove_queue(LoopbackQueue& queue);
  std::size_t pending_ops();  // only while the owner threads of the queues stand still

 private:
  Result<std::unique_ptr<MemoryRegion>> add_region(std::span<std::byte> bytes, Access access,
                                                   PeerScope scope,
                                                   std::shared_ptr<const HostMemory> memory);
  Result<std::unique_ptr<class LoopbackEndpoint>> make_endpoint(CompletionQueue& queue,
                                                                const EndpointOptions& options);

  Switchboard& switchboard_;
  const Incarnation incarnation_;
  const Capabilities capabilities_;
  std::string address_;
  RegionTable regions_;
  std::atomic<unsigned> endpoints_{0};
  Mutex mutex_;
  std::vector<LoopbackQueue*> queues_ GUARDED_BY(mutex_);
};

}  // namespace penstock::loopback

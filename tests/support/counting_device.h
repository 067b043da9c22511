// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A device of any provider that counts what a round must not need: whatever registers memory or
// makes a connection. Everything is passed on.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "transport/api/device.h"

namespace penstock::test {

struct SetUpCalls {
  std::uint64_t registrations = 0;  // register_memory
  std::uint64_t allocations = 0;    // allocate_memory
  std::uint64_t maps = 0;
  std::uint64_t connects = 0;
  std::uint64_t accepts = 0;
  bool operator==(const SetUpCalls&) const = default;
  SetUpCalls& operator+=(const SetUpCalls& other);
  std::string to_string() const;
};
SetUpCalls operator-(SetUpCalls later, const SetUpCalls& earlier);

class CountingDevice final : public Device {
 public:
  explicit CountingDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  SetUpCalls calls() const;  // refused ones too; any thread
  // From now on, as where memory may not be locked. Not while others allocate.
  void refuse_allocations_above(std::size_t bytes) { largest_ = bytes; }

  ProviderKind kind() const override { return device_->kind(); }
  const Capabilities& capabilities() const override { return device_->capabilities(); }
  const std::string& address() const override { return device_->address(); }
  Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, MemoryKind kind,
                                                        Access access, PeerScope scope) override;
  Result<std::unique_ptr<MemoryRegion>> allocate_memory(std::size_t bytes, Access access,
                                                        PeerScope scope) override;
  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(std::uint32_t depth) override {
    return device_->create_completion_queue(depth);
  }
  Result<Route> route(const std::string& address) const override { return device_->route(address); }
  void avoid(const std::string& address, ProviderKind provider, const Status& reason) override {
    device_->avoid(address, provider, reason);
  }
  Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue, const std::string& address,
                                            const EndpointOptions& options) override;
  Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                           const EndpointOptions& options) override;
  std::size_t progress() override { return device_->progress(); }
  int fd() const override { return device_->fd(); }
  std::vector<Counter> counters() const override { return device_->counters(); }

 private:
  const std::unique_ptr<Device> device_;
  std::size_t largest_ = SIZE_MAX;
  std::atomic<std::uint64_t> registrations_{0}, allocations_{0}, maps_{0}, connects_{0},
      accepts_{0};
};

}  // namespace penstock::test

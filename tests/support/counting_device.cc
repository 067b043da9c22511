// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/counting_device.h"

#include <fmt/format.h>

namespace penstock::test {
namespace {

class CountingEndpoint final : public Endpoint {
 public:
  CountingEndpoint(std::unique_ptr<Endpoint> endpoint, std::atomic<std::uint64_t>& maps)
      : endpoint_(std::move(endpoint)), maps_(maps) {}

  Status post(std::span<const WorkRequest> work) override { return endpoint_->post(work); }
  void close() override { endpoint_->close(); }
  bool connected() const override { return endpoint_->connected(); }
  std::uint32_t send_free() const override { return endpoint_->send_free(); }
  Status status() const override { return endpoint_->status(); }
  Result<std::shared_ptr<RemoteMapping>> map(const RemoteRegion& remote, Access access) override {
    ++maps_;
    return endpoint_->map(remote, access);
  }

 private:
  const std::unique_ptr<Endpoint> endpoint_;
  std::atomic<std::uint64_t>& maps_;
};

Result<std::unique_ptr<Endpoint>> wrap(Result<std::unique_ptr<Endpoint>> endpoint,
                                       std::atomic<std::uint64_t>& maps) {
  if (!endpoint.ok()) return endpoint;
  return std::unique_ptr<Endpoint>(std::make_unique<CountingEndpoint>(std::move(*endpoint), maps));
}

}  // namespace

SetUpCalls& SetUpCalls::operator+=(const SetUpCalls& other) {
  registrations += other.registrations;
  allocations += other.allocations;
  maps += other.maps;
  connects += other.connects;
  accepts += other.accepts;
  return *this;
}

SetUpCalls operator-(SetUpCalls later, const SetUpCalls& earlier) {
  later.registrations -= earlier.registrations;
  later.allocations -= earlier.allocations;
  later.maps -= earlier.maps;
  later.connects -= earlier.connects;
  later.accepts -= earlier.accepts;
  return later;
}

std::string SetUpCalls::to_string() const {
  return fmt::format("{} registrations, {} allocations, {} maps, {} connects, {} accepts",
                     registrations, allocations, maps, connects, accepts);
}

SetUpCalls CountingDevice::calls() const {
  return {registrations_, allocations_, maps_, connects_, accepts_};
}

Result<std::unique_ptr<MemoryRegion>> CountingDevice::register_memory(std::span<std::byte> bytes,
                                                                      MemoryKind kind,
                                                                      Access access,
                                                                      PeerScope scope) {
  ++registrations_;
  return device_->register_memory(bytes, kind, access, scope);
}

Result<std::unique_ptr<MemoryRegion>> CountingDevice::allocate_memory(std::size_t bytes,
                                                                      Access access,
                                                                      PeerScope scope) {
  ++allocations_;
  if (bytes > largest_) return Status(Code::kExhausted, fmt::format("allocate {} bytes", bytes));
  return device_->allocate_memory(bytes, access, scope);
}

Result<std::unique_ptr<Endpoint>> CountingDevice::connect(CompletionQueue& queue,
                                                          const std::string& address,
                                                          const EndpointOptions& options) {
  ++connects_;
  return wrap(device_->connect(queue, address, options), maps_);
}

Result<std::unique_ptr<Endpoint>> CountingDevice::accept(CompletionQueue& queue,
                                                         const EndpointOptions& options) {
  ++accepts_;
  return wrap(device_->accept(queue, options), maps_);
}

}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/device.h"

#include <sys/eventfd.h>

#include <cerrno>

#include "transport/loopback/endpoint.h"
#include "transport/loopback/switchboard.h"

namespace penstock::loopback {

LoopbackDevice::LoopbackDevice(Switchboard& switchboard, Incarnation incarnation)
    : switchboard_(switchboard),
      incarnation_(incarnation),
      capabilities_{.maps_remote = true,
                    .max_message_bytes = kMaxMessageBytes,
                    .max_endpoints = kMaxEndpoints},
      address_(switchboard.add_device(*this)) {}

LoopbackDevice::~LoopbackDevice() {
  switchboard_.remove_device(*this);
  MutexLock lock(mutex_);
  CHECK(endpoints_.load() == 0 && queues_.empty() && regions_.live() == 0,
        "{} is destroyed before its {} endpoints, {} queues, {} regions", address_,
        endpoints_.load(), queues_.size(), regions_.live());
}

Result<std::unique_ptr<MemoryRegion>> LoopbackDevice::register_memory(std::span<std::byte> bytes,
                                                                      MemoryKind memory,
                                                                      Access access,
                                                                      PeerScope scope) {
  if (memory != MemoryKind::kHost) return host_memory_only(kind());
  return add_region(bytes, access, scope, nullptr);
}

Result<std::unique_ptr<MemoryRegion>> LoopbackDevice::allocate_memory(std::size_t bytes,
                                                                      Access access,
                                                                      PeerScope scope) {
  PENSTOCK_ASSIGN_OR_RETURN(HostMemory memory, HostMemory::allocate(bytes));
  auto shared = std::make_shared<const HostMemory>(std::move(memory));
  return add_region(shared->bytes(), access, scope, shared);
}

Result<std::unique_ptr<MemoryRegion>> LoopbackDevice::add_region(
    std::span<std::byte> bytes, Access access, PeerScope scope,
    std::shared_ptr<const HostMemory> memory) {
  if (bytes.empty()) return Status(Code::kInvalidArgument, "registering no bytes");
  RemoteRegion description;
  description.providers = provider_bit(kind());
  description.maps = memory == nullptr ? 0 : provider_bit(kind());
  description.incarnation = incarnation_;
  description.length = bytes.size();
  PENSTOCK_ASSIGN_OR_RETURN(description.key[kKeySlot],
                            regions_.add(bytes, access, scope, std::move(memory)));
  return std::unique_ptr<MemoryRegion>(
      std::make_unique<LoopbackRegion>(regions_, bytes, description));
}

Result<std::unique_ptr<CompletionQueue>> LoopbackDevice::create_completion_queue(
    std::uint32_t depth) {
  if (depth == 0 || depth > kMaxQueueDepth)
    return Status(
        Code::kInvalidArgument,
        fmt::format("a completion queue of depth {}; 1 to {} are possible", depth, kMaxQueueDepth));
  UniqueFd event;
  if (switchboard_.timeline() == nullptr) {  // with a fault plan nobody sleeps
    event.reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!event.valid()) return Status::system("creating the eventfd of a queue", errno);
  }
  return std::unique_ptr<CompletionQueue>(
      std::make_unique<LoopbackQueue>(*this, depth, kMaxMessageBytes, std::move(event)));
}

Result<std::unique_ptr<LoopbackEndpoint>> LoopbackDevice::make_endpoint(
    CompletionQueue& queue, const EndpointOptions& options) {
  auto* own = dynamic_cast<LoopbackQueue*>(&queue);
  if (own == nullptr || &own->device() != this)
    return Status(Code::kInvalidArgument, "an endpoint on the queue of another device");
  if (options.send_depth == 0 || options.send_depth > kMaxSendDepth)
    return Status(Code::kInvalidArgument, fmt::format("a send depth of {}; 1 to {} are possible",
                                                      options.send_depth, kMaxSendDepth));
  if (live_endpoints() >= kMaxEndpoints)
    return Status(Code::kExhausted, fmt::format("{} has all its endpoints", address_));
  return std::make_unique<LoopbackEndpoint>(*this, *own, options);
}

Result<std::unique_ptr<Endpoint>> LoopbackDevice::connect(CompletionQueue& queue,
                                                          const std::string& address,
                                                          const EndpointOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<LoopbackEndpoint> endpoint,
                            make_endpoint(queue, options));
  if (switchboard_.timeline() != nullptr) {
    endpoint->knock_later(address);
  } else {
    switchboard_.knock(*endpoint, address);
  }
  return std::unique_ptr<Endpoint>(std::move(endpoint));
}

Result<std::unique_ptr<Endpoint>> LoopbackDevice::accept(CompletionQueue& queue,
                                                         const EndpointOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<LoopbackEndpoint> endpoint,
                            make_endpoint(queue, options));
  PENSTOCK_RETURN_IF_ERROR(switchboard_.await(*endpoint));
  return std::unique_ptr<Endpoint>(std::move(endpoint));
}

void LoopbackDevice::add_queue(LoopbackQueue& queue) {
  MutexLock lock(mutex_);
  queues_.push_back(&queue);
}

void LoopbackDevice::remove_queue(LoopbackQueue& queue) {
  MutexLock lock(mutex_);
  std::erase(queues_, &queue);
}

std::size_t LoopbackDevice::pending_ops() {
  MutexLock lock(mutex_);
  std::size_t sum = 0;
  for (const LoopbackQueue* queue : queues_) sum += queue->pending_ops();
  return sum;
}

const Clock& LoopbackDevice::clock() const { return switchboard_.clock(); }

}  // namespace penstock::loopback

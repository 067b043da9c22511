// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/auto/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

#include "transport/auto/poller.h"
#include "transport/auto/queue.h"
#include "transport/auto/region.h"
#include "transport/base/thread_annotations.h"

namespace penstock {
namespace automatic {
namespace {

constexpr std::string_view kPrefix = "auto:";

// "auto:shm:…;tcp:…" → the addresses of the peer's transports; a plain address is a list of one.
std::vector<std::string> split(const std::string& address) {
  std::vector<std::string> parts;
  std::string_view rest = address;
  if (rest.starts_with(kPrefix)) rest.remove_prefix(kPrefix.size());
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(';'), rest.size());
    parts.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return parts;
}

const std::string* address_of(const std::vector<std::string>& addresses, ProviderKind kind) {
  const std::string prefix = fmt::format("{}:", provider_name(kind));
  for (const std::string& address : addresses)
    if (address.starts_with(prefix)) return &address;
  return nullptr;
}

class AutoDevice final : public Device {
 public:
  AutoDevice(std::vector<std::unique_ptr<Device>> devices, std::vector<RefusedProvider> refused,
             UniqueFd poller)
      : devices_(std::move(devices)), refused_(std::move(refused)), poller_(std::move(poller)) {
    address_ = kPrefix;
    capabilities_ = devices_.front()->capabilities();
    for (const auto& device : devices_) {
      if (device != devices_.front()) address_ += ';';
      address_ += device->address();
      const Capabilities& theirs = device->capabilities();
      capabilities_.maps_remote = capabilities_.maps_remote || theirs.maps_remote;
      capabilities_.max_message_bytes =
          std::min(capabilities_.max_message_bytes, theirs.max_message_bytes);
      capabilities_.max_endpoints = std::min(capabilities_.max_endpoints, theirs.max_endpoints);
    }
  }

  ProviderKind kind() const override { return ProviderKind::kAuto; }
  const Capabilities& capabilities() const override { return capabilities_; }
  const std::string& address() const override { return address_; }

  Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, MemoryKind kind,
                                                        Access access, PeerScope scope) override {
    return register_with_rest({}, nullptr, bytes, kind, access, scope);
  }
  Result<std::unique_ptr<MemoryRegion>> allocate_memory(std::size_t bytes, Access access,
                                                        PeerScope scope) override;
  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(std::uint32_t depth) override;

  Result<Route> route(const std::string& address) const override;
  void avoid(const std::string& address, ProviderKind provider, const Status& reason) override {
    MutexLock lock(mutex_);
    avoided_[address].insert_or_assign(provider, reason.to_string());
    // Every way was tried and failed: perhaps the first was only in bad luck.
    if (avoided_[address].size() >= devices_.size()) avoided_.erase(address);
  }

  Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue, const std::string& address,
                                            const EndpointOptions& options) override;
  Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                           const EndpointOptions& options) override;
  std::size_t progress() override {
    std::size_t done = 0;
    for (const auto& device : devices_) done += device->progress();
    return done;
  }
  int fd() const override { return poller_.get(); }
  std::vector<Counter> counters() const override;

 private:
  std::optional<std::size_t> index_of(ProviderKind kind) const {
    for (std::size_t i = 0; i < devices_.size(); ++i)
      if (devices_[i]->kind() == kind) return i;
    return {};
  }
  Result<std::unique_ptr<MemoryRegion>> register_with_rest(
      std::vector<std::unique_ptr<MemoryRegion>> parts, const Device* done,
      std::span<std::byte> bytes, MemoryKind kind, Access access, PeerScope scope);

  const std::vector<std::unique_ptr<Device>> devices_;
  const std::vector<RefusedProvider> refused_;
  const UniqueFd poller_;
  std::string address_;
  Capabilities capabilities_;
  mutable Mutex mutex_;
  std::map<std::string, std::map<ProviderKind, std::string>> avoided_ GUARDED_BY(mutex_);
};

Result<std::unique_ptr<MemoryRegion>> AutoDevice::register_with_rest(
    std::vector<std::unique_ptr<MemoryRegion>> parts, const Device* done,
    std::span<std::byte> bytes, MemoryKind kind, Access access, PeerScope scope) {
  for (const auto& device : devices_) {
    if (device.get() == done) continue;
    auto part = device->register_memory(bytes, kind, access, scope);
    if (!part.ok()) {
      while (!parts.empty()) parts.pop_back();
      return part.status();
    }
    parts.push_back(std::move(*part));
  }
  return std::unique_ptr<MemoryRegion>(std::make_unique<AutoRegion>(std::move(parts)));
}

// Memory comes from the provider that can map it, if there is one.
Result<std::unique_ptr<MemoryRegion>> AutoDevice::allocate_memory(std::size_t bytes, Access access,
                                                                  PeerScope scope) {
  const auto mapper = std::find_if(devices_.begin(), devices_.end(), [](const auto& device) {
    return device->capabilities().maps_remote;
  });
  Device& owner = mapper == devices_.end() ? *devices_.front() : **mapper;
  std::vector<std::unique_ptr<MemoryRegion>> parts;
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<MemoryRegion> first,
                            owner.allocate_memory(bytes, access, scope));
  const std::span<std::byte> memory = first->bytes();
  parts.push_back(std::move(first));
  return register_with_rest(std::move(parts), &owner, memory, MemoryKind::kHost, access, scope);
}

Result<std::unique_ptr<CompletionQueue>> AutoDevice::create_completion_queue(std::uint32_t depth) {
  std::vector<std::unique_ptr<CompletionQueue>> parts;
  for (const auto& device : devices_) {
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<CompletionQueue> part,
                              device->create_completion_queue(depth));
    parts.push_back(std::move(part));
  }
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<AutoQueue> queue, AutoQueue::create(std::move(parts)));
  return std::unique_ptr<CompletionQueue>(std::move(queue));
}

Result<Route> AutoDevice::route(const std::string& address) const {
  const std::vector<std::string> theirs = split(address);
  std::string why_not;
  const auto refuse = [&](ProviderKind kind, std::string_view reason) {
    why_not += fmt::format("; not {}: {}", provider_name(kind), reason);
  };
  for (const RefusedProvider& refused : refused_) refuse(refused.kind, refused.reason.to_string());
  MutexLock lock(mutex_);
  const auto avoided = avoided_.find(address);
  for (const auto& device : devices_) {
    const std::string* const reach = address_of(theirs, device->kind());
    if (reach == nullptr) {
      refuse(device->kind(), "the peer does not offer it");
      continue;
    }
    if (avoided != avoided_.end() && avoided->second.contains(device->kind())) {
      refuse(device->kind(), avoided->second.at(device->kind()));
      continue;
    }
    const Result<Route> route = device->route(*reach);
    if (!route.ok()) {
      refuse(device->kind(), route.status().to_string());
      continue;
    }
    std::string why = fmt::format("{} to {}", provider_name(device->kind()), *reach);
    if (!route.value().why.empty()) why += fmt::format(" ({})", route.value().why);
    return Route{device->kind(), why + why_not};
  }
  return Status(Code::kUnsupported, fmt::format("no transport reaches {}{}", address, why_not));
}

Result<std::unique_ptr<Endpoint>> AutoDevice::connect(CompletionQueue& queue,
                                                      const std::string& address,
                                                      const EndpointOptions& options) {
  ProviderKind kind = options.provider;
  if (kind == ProviderKind::kAuto) {
    PENSTOCK_ASSIGN_OR_RETURN(const Route chosen, route(address));
    kind = chosen.provider;
  }
  const std::optional<std::size_t> index = index_of(kind);
  const std::vector<std::string> theirs = split(address);
  const std::string* const reach = address_of(theirs, kind);
  if (!index || reach == nullptr)
    return Status(Code::kUnsupported,
                  fmt::format("connecting by {}: not on both sides", provider_name(kind)));
  return devices_[*index]->connect(static_cast<AutoQueue&>(queue).use(*index), *reach, options);
}

Result<std::unique_ptr<Endpoint>> AutoDevice::accept(CompletionQueue& queue,
                                                     const EndpointOptions& options) {
  const std::optional<std::size_t> index =
      options.provider == ProviderKind::kAuto ? 0 : index_of(options.provider);
  if (!index)
    return Status(Code::kUnsupported,
                  fmt::format("accepting by {}: not here", provider_name(options.provider)));
  return devices_[*index]->accept(static_cast<AutoQueue&>(queue).use(*index), options);
}

std::vector<Counter> AutoDevice::counters() const {
  std::vector<Counter> all;
  for (const auto& device : devices_)
    for (Counter& counter : device->counters()) {
      counter.name = fmt::format("{}.{}", provider_name(device->kind()), counter.name);
      all.push_back(std::move(counter));
    }
  return all;
}

}  // namespace
}  // namespace automatic

Result<std::unique_ptr<Device>> create_auto_device(std::vector<std::unique_ptr<Device>> devices,
                                                   std::vector<RefusedProvider> refused) {
  if (devices.empty()) return Status(Code::kInvalidArgument, "auto: no transport to choose from");
  std::vector<int> fds;
  std::uint8_t kinds = 0;
  for (const auto& device : devices) {
    if ((kinds & provider_bit(device->kind())) != 0)
      return Status(Code::kInvalidArgument,
                    fmt::format("auto: {} is there twice", provider_name(device->kind())));
    kinds |= provider_bit(device->kind());
    fds.push_back(device->fd());
  }
  PENSTOCK_ASSIGN_OR_RETURN(UniqueFd poller, automatic::join_descriptors(fds));
  return std::unique_ptr<Device>(std::make_unique<automatic::AutoDevice>(
      std::move(devices), std::move(refused), std::move(poller)));
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/device.h"

#include <fmt/format.h>

#include "transport/base/random.h"
#include "transport/hardware/cuda_buffer.h"
#include "transport/shm/counts.h"
#include "transport/shm/endpoint.h"
#include "transport/shm/listener.h"
#include "transport/shm/queue.h"
#include "transport/shm/region_table.h"
#include "transport/shm/socket.h"

namespace penstock {
namespace shm {
namespace {

constexpr std::uint32_t kMaxEndpoints = 1U << 16;  // descriptors run out before
constexpr std::uint32_t kMaxSendDepth = 1U << 16;
constexpr std::size_t kKeySlot = key_slot(ProviderKind::kShm);

class ShmRegion final : public MemoryRegion {
 public:
  // `owned`: the bytes came from table.allocate() and go with the region.
  ShmRegion(RegionTable& table, std::span<std::byte> bytes, std::uint64_t key, bool owned)
      : table_(table), bytes_(bytes), owned_(owned) {
    descriptor_.providers = provider_bit(ProviderKind::kShm);
    if (table.shared(key)) descriptor_.maps = descriptor_.providers;
    descriptor_.incarnation = table.incarnation();
    descriptor_.length = bytes.size();
    descriptor_.key[kKeySlot] = key;
  }
  ~ShmRegion() override {
    table_.remove(descriptor_.key[kKeySlot]);
    if (owned_) table_.free(bytes_);
  }
  ShmRegion(const ShmRegion&) = delete;
  ShmRegion& operator=(const ShmRegion&) = delete;

  std::span<std::byte> bytes() const override { return bytes_; }
  const RemoteRegion& describe() const override { return descriptor_; }

 private:
  RegionTable& table_;
  const std::span<std::byte> bytes_;
  const bool owned_;
  RemoteRegion descriptor_;
};

// GPU memory: peers may map it, no post reaches it.
class CudaRegion final : public MemoryRegion {
 public:
  static Result<std::unique_ptr<MemoryRegion>> create(RegionTable& table, CudaBuffer buffer,
                                                      Access access, PeerScope scope) {
    PENSTOCK_ASSIGN_OR_RETURN(CudaShare share, buffer.share());
    std::unique_ptr<CudaRegion> self(new CudaRegion(table, std::move(buffer), std::move(share)));
    PENSTOCK_ASSIGN_OR_RETURN(self->key_, table.add(self->bytes(), access, scope, &self->share_));
    RemoteRegion& descriptor = self->descriptor_;
    if (table.shared(self->key_)) descriptor.maps = provider_bit(ProviderKind::kShm);
    descriptor.incarnation = table.incarnation();
    descriptor.length = self->bytes().size();
    descriptor.key[kKeySlot] = self->key_;
    return std::unique_ptr<MemoryRegion>(std::move(self));
  }
  ~CudaRegion() override {
    if (key_ != 0) table_.remove(key_);
  }
  CudaRegion(const CudaRegion&) = delete;
  CudaRegion& operator=(const CudaRegion&) = delete;

  std::span<std::byte> bytes() const override { return buffer_.bytes(); }
  MemoryKind kind() const override { return MemoryKind::kCuda; }
  const RemoteRegion& describe() const override { return descriptor_; }
  const MemoryRegion* part(ProviderKind kind) const override {
    return kind == ProviderKind::kShm ? this : nullptr;
  }

 private:
  CudaRegion(RegionTable& table, CudaBuffer buffer, CudaShare share)
      : table_(table), buffer_(std::move(buffer)), share_(std::move(share)) {}

  RegionTable& table_;
  const CudaBuffer buffer_;
  const CudaShare share_;
  std::uint64_t key_ = 0;
  RemoteRegion descriptor_;
};

class ShmDevice final : public Device {
 public:
  ShmDevice(std::unique_ptr<Listener> listener, Address address,
            std::unique_ptr<RegionTable> regions, const CudaDriver* cuda, const Clock& clock)
      : listener_(std::move(listener)),
        host_(address.host),
        address_(to_text(address)),
        regions_(std::move(regions)),
        cuda_(cuda),
        clock_(clock) {}

  ProviderKind kind() const override { return ProviderKind::kShm; }
  const Capabilities& capabilities() const override { return capabilities_; }
  const std::string& address() const override { return address_; }

  Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, MemoryKind kind,
                                                        Access access, PeerScope scope) override {
    if (kind == MemoryKind::kCuda) {
      const CudaDriver* driver = cuda_;
      if (driver == nullptr) {
        PENSTOCK_ASSIGN_OR_RETURN(driver, system_cuda());
      }
      PENSTOCK_ASSIGN_OR_RETURN(CudaBuffer buffer, CudaBuffer::find(*driver, bytes));
      return CudaRegion::create(*regions_, std::move(buffer), access, scope);
    }
    return make_region(bytes, access, scope, false);
  }

  Result<std::unique_ptr<MemoryRegion>> allocate_memory(std::size_t bytes, Access access,
                                                        PeerScope scope) override {
    PENSTOCK_ASSIGN_OR_RETURN(const std::span<std::byte> block,
                              regions_->allocate(bytes, access, scope));
    auto region = make_region(block, access, scope, true);
    if (!region.ok()) regions_->free(block);
    return region;
  }

  // Each endpoint has a ring of its own, so the depth needs no memory here.
  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(
      std::uint32_t /*depth*/) override {
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<ShmQueue> queue, ShmQueue::create(clock_));
    return std::unique_ptr<CompletionQueue>(std::move(queue));
  }

  Result<Route> route(const std::string& address) const override {
    PENSTOCK_ASSIGN_OR_RETURN(const Address peer, reachable(address));
    return Route{ProviderKind::kShm, "both run on this host: nothing goes over a wire"};
  }

  Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue, const std::string& address,
                                            const EndpointOptions& options) override {
    PENSTOCK_ASSIGN_OR_RETURN(const Address peer, reachable(address));
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<ShmEndpoint> endpoint,
                              make_endpoint(queue, nullptr, options));
    endpoint->start(peer.name);
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }

  Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                           const EndpointOptions& options) override {
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<ShmEndpoint> endpoint,
                              make_endpoint(queue, listener_.get(), options));
    PENSTOCK_RETURN_IF_ERROR(
        listener_->await(options.token, static_cast<ShmQueue&>(queue), endpoint->serial()));
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }

  std::size_t progress() override { return listener_->progress(); }
  int fd() const override { return listener_->fd(); }

  std::vector<Counter> counters() const override {
    const auto read = [](const std::atomic<std::uint64_t>& count) {
      return count.load(std::memory_order_relaxed);
    };
    return {{"bytes_in_place", read(counts_.bytes_in_place)},
            {"bytes_by_kernel", read(counts_.bytes_by_kernel)},
            {"bytes_copied_twice", read(counts_.bytes_copied_twice)},
            {"doorbells", read(counts_.doorbells)},
            {"control_messages", read(counts_.control_messages)}};
  }

 private:
  Result<Address> reachable(const std::string& text) const {
    PENSTOCK_ASSIGN_OR_RETURN(Address address, parse_address(text));
    if (address.host == host_) return address;
    return Status(Code::kUnsupported, fmt::format("{} is on another host", text))
        .with_hint("shm reaches processes of this host and network namespace only");
  }

  Result<std::unique_ptr<MemoryRegion>> make_region(std::span<std::byte> bytes, Access access,
                                                    PeerScope scope, bool owned) {
    PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t key, regions_->add(bytes, access, scope));
    return std::unique_ptr<MemoryRegion>(std::make_unique<ShmRegion>(*regions_, bytes, key, owned));
  }

  Result<std::unique_ptr<ShmEndpoint>> make_endpoint(CompletionQueue& queue, Listener* listener,
                                                     const EndpointOptions& options) {
    if (options.send_depth == 0 || options.send_depth > kMaxSendDepth)
      return Status(Code::kInvalidArgument, fmt::format("send_depth {} is not in 1 … {}",
                                                        options.send_depth, kMaxSendDepth));
    PENSTOCK_ASSIGN_OR_RETURN(SharedMemory segment, create_shared(kSegmentBytes, Others::kRead));
    return std::make_unique<ShmEndpoint>(static_cast<ShmQueue&>(queue), *regions_, counts_,
                                         listener, options, std::move(segment), cuda_);
  }

  const std::unique_ptr<Listener> listener_;
  const std::string host_;
  const std::string address_;
  const std::unique_ptr<RegionTable> regions_;
  const CudaDriver* const cuda_;
  const Clock& clock_;
  Counts counts_;
  const Capabilities capabilities_{
      .maps_remote = true, .max_message_bytes = kMaxMessageBytes, .max_endpoints = kMaxEndpoints};
};

}  // namespace
}  // namespace shm

Result<std::unique_ptr<Device>> open_shm_device(const ShmOptions& options, const Clock& clock) {
  PENSTOCK_ASSIGN_OR_RETURN(std::string host, shm::this_host());
  shm::Address address{std::move(host), fmt::format("penstock-{:016x}", random_u64())};
  PENSTOCK_ASSIGN_OR_RETURN(UniqueFd socket, shm::listen_at(address.name));
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<shm::Listener> listener,
                            shm::Listener::create(std::move(socket)));
  PENSTOCK_ASSIGN_OR_RETURN(
      std::unique_ptr<shm::RegionTable> regions,
      shm::RegionTable::create(options.incarnation != 0 ? options.incarnation : random_u64(),
                               options.by_kernel));
  return std::unique_ptr<Device>(std::make_unique<shm::ShmDevice>(
      std::move(listener), std::move(address), std::move(regions), options.cuda, clock));
}

}  // namespace penstock

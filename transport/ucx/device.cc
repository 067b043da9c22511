// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/device.h"

#include <fmt/format.h>

#include <thread>

#include "transport/base/random.h"
#include "transport/parts/region_table.h"
#include "transport/socket/socket.h"
#include "transport/ucx/connection.h"
#include "transport/ucx/context.h"
#include "transport/ucx/listener.h"
#include "transport/ucx/queue.h"

namespace penstock {
namespace ucx {
namespace {

constexpr std::uint32_t kMaxEndpoints = 1U << 16;  // sockets run out before
constexpr std::string_view kAddressPrefix = "ucx:";
constexpr std::size_t kKeySlot = key_slot(ProviderKind::kUcx);
// A region that goes away while bytes land in it: after this its peers are cut off.
constexpr TimeNs kLandingPatienceNs = kSecond;
constexpr TimeNs kGivingUpPatienceNs = 10 * kSecond;  // after the connections were cut

class UcxEndpoint final : public Endpoint {
 public:
  UcxEndpoint(UcxQueue& queue, std::unique_ptr<Connection> connection)
      : queue_(queue), connection_(std::move(connection)) {}
  ~UcxEndpoint() override {
    MutexLock lock(queue_.gate());
    // The lent bytes are the owner's again when this returns.
    while (!connection_->abandon()) queue_.progress();
    connection_.reset();
  }
  UcxEndpoint(const UcxEndpoint&) = delete;
  UcxEndpoint& operator=(const UcxEndpoint&) = delete;

  using Endpoint::post;
  Status post(std::span<const WorkRequest> work) override {
    MutexLock lock(queue_.gate());
    return connection_->post(work);
  }
  void close() override {
    MutexLock lock(queue_.gate());
    connection_->close();
  }
  bool connected() const override {
    MutexLock lock(queue_.gate());
    return connection_->connected();
  }
  std::uint32_t send_free() const override {
    MutexLock lock(queue_.gate());
    return connection_->send_free();
  }
  Status status() const override {
    MutexLock lock(queue_.gate());
    return connection_->status();
  }

 private:
  UcxQueue& queue_;
  std::unique_ptr<Connection> connection_;
};

class UcxDevice final : public Device {
 public:
  UcxDevice(std::unique_ptr<Context> context, std::unique_ptr<Listener> listener,
            std::string address, Incarnation incarnation, const Clock& clock)
      : context_(std::move(context)),
        listener_(std::move(listener)),
        address_(std::move(address)),
        clock_(clock),
        regions_(incarnation) {}

  ProviderKind kind() const override { return ProviderKind::kUcx; }
  const Capabilities& capabilities() const override { return capabilities_; }
  const std::string& address() const override { return address_; }

  Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, MemoryKind kind,
                                                        Access access, PeerScope scope) override;

  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(
      std::uint32_t /*depth*/) override {
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<UcxQueue> queue,
                              UcxQueue::create(*context_, queues_, clock_));
    return std::unique_ptr<CompletionQueue>(std::move(queue));
  }

  Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue, const std::string& address,
                                            const EndpointOptions& options) override {
    PENSTOCK_RETURN_IF_ERROR(check(options));
    PENSTOCK_ASSIGN_OR_RETURN(const socket::Address target,
                              socket::parse_device_address(kAddressPrefix, address));
    PENSTOCK_ASSIGN_OR_RETURN(socket::Connecting connecting, socket::start_connect(target, {}));
    auto& own = static_cast<UcxQueue&>(queue);
    MutexLock lock(own.gate());
    auto connection = std::make_unique<Connection>(own, regions_, nullptr, options);
    connection->start(std::move(connecting.fd), connecting.error, address);
    return std::unique_ptr<Endpoint>(std::make_unique<UcxEndpoint>(own, std::move(connection)));
  }

  Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                           const EndpointOptions& options) override {
    PENSTOCK_RETURN_IF_ERROR(check(options));
    auto& own = static_cast<UcxQueue&>(queue);
    MutexLock lock(own.gate());
    auto connection = std::make_unique<Connection>(own, regions_, listener_.get(), options);
    PENSTOCK_RETURN_IF_ERROR(listener_->await(options.token, own, connection->key()));
    return std::unique_ptr<Endpoint>(std::make_unique<UcxEndpoint>(own, std::move(connection)));
  }

  std::size_t progress() override { return listener_->progress(); }
  int fd() const override { return listener_->fd(); }
  std::vector<Counter> counters() const override {
    const Counts& counts = context_->counts();
    return {{"frames_sent", counts.frames_sent.load(std::memory_order_relaxed)},
            {"bytes_sent", counts.bytes_sent.load(std::memory_order_relaxed)},
            {"frames_received", counts.frames_received.load(std::memory_order_relaxed)},
            {"bytes_received", counts.bytes_received.load(std::memory_order_relaxed)}};
  }

  // When it returns the key is dead and nothing lands in its bytes.
  void remove_region(std::uint64_t key) {
    regions_.retire(key);
    const TimeNs cut_ns = clock_.now_ns() + kLandingPatienceNs;
    while (!regions_.landed(key)) {
      // Seen over UCX's shared memory with a peer that was stopped in the middle of a transfer: UCX
      // keeps the receive even after its endpoint was closed by force, and could write to the bytes
      // at any time. Returning would hand corrupt memory to whoever gets it next.
      CHECK(clock_.now_ns() < cut_ns + kGivingUpPatienceNs,
            "UCX does not give back the memory of a transfer that was cut off");
      queues_.drive(key, clock_.now_ns() >= cut_ns);
      std::this_thread::yield();
    }
    regions_.recycle(key);
  }

 private:
  static Status check(const EndpointOptions& options) {
    if (options.send_depth > 0 && options.send_depth <= kMaxSendDepth) return {};
    return Status(Code::kInvalidArgument,
                  fmt::format("send_depth {} is not in 1 … {}", options.send_depth, kMaxSendDepth));
  }

  const std::unique_ptr<Context> context_;
  const std::unique_ptr<Listener> listener_;
  const std::string address_;
  const Clock& clock_;
  RegionTable regions_;
  QueueList queues_;
  const Capabilities capabilities_{
      .maps_remote = false, .max_message_bytes = kMaxMessageBytes, .max_endpoints = kMaxEndpoints};
};

class UcxRegion final : public MemoryRegion {
 public:
  UcxRegion(UcxDevice& device, std::span<std::byte> bytes, Incarnation incarnation,
            std::uint64_t key)
      : device_(device), bytes_(bytes) {
    descriptor_.providers = provider_bit(ProviderKind::kUcx);
    descriptor_.incarnation = incarnation;
    descriptor_.length = bytes.size();
    descriptor_.key[kKeySlot] = key;
  }
  ~UcxRegion() override { device_.remove_region(descriptor_.key[kKeySlot]); }
  UcxRegion(const UcxRegion&) = delete;
  UcxRegion& operator=(const UcxRegion&) = delete;

  std::span<std::byte> bytes() const override { return bytes_; }
  const RemoteRegion& describe() const override { return descriptor_; }

 private:
  UcxDevice& device_;
  const std::span<std::byte> bytes_;
  RemoteRegion descriptor_;
};

Result<std::unique_ptr<MemoryRegion>> UcxDevice::register_memory(std::span<std::byte> bytes,
                                                                 MemoryKind kind, Access access,
                                                                 PeerScope scope) {
  if (kind != MemoryKind::kHost) return host_memory_only(ProviderKind::kUcx);
  PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t key, regions_.add(bytes, access, scope));
  return std::unique_ptr<MemoryRegion>(
      std::make_unique<UcxRegion>(*this, bytes, regions_.incarnation(), key));
}

}  // namespace
}  // namespace ucx

Result<std::unique_ptr<Device>> open_ucx_device(const UcxOptions& options, const Clock& clock) {
  PENSTOCK_ASSIGN_OR_RETURN(const ucx::UcpApi* api, ucx::system_ucp());
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<ucx::Context> context,
                            ucx::Context::open(*api, options.transports));
  PENSTOCK_ASSIGN_OR_RETURN(const std::string host,
                            socket::advertised_host(options.bind_address, options.advertise_host));
  PENSTOCK_ASSIGN_OR_RETURN(UniqueFd listening,
                            socket::listen_on(options.bind_address, options.port, {}));
  PENSTOCK_ASSIGN_OR_RETURN(const std::uint16_t port, socket::bound_port(listening.get()));
  PENSTOCK_ASSIGN_OR_RETURN(
      std::unique_ptr<ucx::Listener> listener,
      ucx::Listener::create(std::move(listening), options.hello_timeout_ns, clock));
  const Incarnation incarnation = options.incarnation != 0 ? options.incarnation : random_u64();
  return std::unique_ptr<Device>(std::make_unique<ucx::UcxDevice>(
      std::move(context), std::move(listener),
      socket::device_address(ucx::kAddressPrefix, host, port), incarnation, clock));
}

}  // namespace penstock

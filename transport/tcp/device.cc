// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/device.h"

#include <fmt/format.h>
#include <signal.h>

#include "transport/base/random.h"
#include "transport/tcp/address.h"
#include "transport/tcp/context.h"
#include "transport/tcp/endpoint.h"
#include "transport/tcp/listener.h"
#include "transport/tcp/queue.h"

namespace penstock {
namespace tcp {
namespace {

constexpr std::size_t kKeySlot = key_slot(ProviderKind::kTcp);

class TcpRegion final : public MemoryRegion {
 public:
  TcpRegion(RegionTable& table, std::span<std::byte> bytes, std::uint64_t key)
      : table_(table), bytes_(bytes) {
    descriptor_.providers = provider_bit(ProviderKind::kTcp);
    descriptor_.incarnation = table.incarnation();
    descriptor_.length = bytes.size();
    descriptor_.key[kKeySlot] = key;
  }
  ~TcpRegion() override { table_.remove(descriptor_.key[kKeySlot]); }
  TcpRegion(const TcpRegion&) = delete;
  TcpRegion& operator=(const TcpRegion&) = delete;

  std::span<std::byte> bytes() const override { return bytes_; }
  const RemoteRegion& describe() const override { return descriptor_; }

 private:
  RegionTable& table_;
  const std::span<std::byte> bytes_;
  RemoteRegion descriptor_;
};

class TcpDevice final : public Device {
 public:
  TcpDevice(std::unique_ptr<DeviceContext> context, std::unique_ptr<Listener> listener,
            std::string address, const Clock& clock)
      : context_(std::move(context)),
        listener_(std::move(listener)),
        address_(std::move(address)),
        clock_(clock) {}

  ProviderKind kind() const override { return ProviderKind::kTcp; }
  const Capabilities& capabilities() const override { return capabilities_; }
  const std::string& address() const override { return address_; }

  Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, MemoryKind kind,
                                                        Access access, PeerScope scope) override {
    if (kind != MemoryKind::kHost) return host_memory_only(ProviderKind::kTcp);
    PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t key, context_->regions.add(bytes, access, scope));
    return std::unique_ptr<MemoryRegion>(
        std::make_unique<TcpRegion>(context_->regions, bytes, key));
  }

  // A socket holds back what a full queue cannot show, so the depth needs no memory here.
  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(
      std::uint32_t /*depth*/) override {
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<TcpQueue> queue,
                              TcpQueue::create(context_->counters, clock_));
    return std::unique_ptr<CompletionQueue>(std::move(queue));
  }

  // Where one side encrypts and the other does not, neither gives in.
  Result<Route> route(const std::string& address) const override {
    const bool here = context_->tls != nullptr, there = encrypts(address);
    if (here == there) return Route{ProviderKind::kTcp, here ? "encrypted, TLS 1.3" : ""};
    return Status(Code::kUnauthenticated, fmt::format("{} encrypts data and {} does not",
                                                      here ? "this process" : "the peer",
                                                      here ? "the peer" : "this process"))
        .with_hint("give --encrypt (NodeOptions::data) to every process of the job or to none");
  }

  Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue, const std::string& address,
                                            const EndpointOptions& options) override {
    PENSTOCK_ASSIGN_OR_RETURN(const socket::Address target, parse_device_address(address));
    PENSTOCK_ASSIGN_OR_RETURN(auto endpoint, make_endpoint(queue, nullptr, options));
    PENSTOCK_ASSIGN_OR_RETURN(socket::Connecting connecting,
                              socket::start_connect(target, context_->sockets));
    endpoint->start(std::move(connecting.fd), connecting.error, address);
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }

  Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                           const EndpointOptions& options) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto endpoint, make_endpoint(queue, listener_.get(), options));
    PENSTOCK_RETURN_IF_ERROR(
        listener_->await(options.token, static_cast<TcpQueue&>(queue), endpoint->serial()));
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }

  std::size_t progress() override { return listener_->progress(); }
  int fd() const override { return listener_->fd(); }
  std::vector<Counter> counters() const override { return context_->counters.sum(); }

 private:
  Result<std::unique_ptr<TcpEndpoint>> make_endpoint(CompletionQueue& queue, Listener* listener,
                                                     const EndpointOptions& options) {
    if (options.send_depth == 0 || options.send_depth > kMaxSendDepth)
      return Status(Code::kInvalidArgument, fmt::format("send_depth {} is not in 1 … {}",
                                                        options.send_depth, kMaxSendDepth));
    if (!context_->places.take())
      return Status(Code::kExhausted, fmt::format("the tcp device has its {} endpoints already",
                                                  context_->places.most()))
          .with_hint("raise TcpOptions::max_endpoints, or destroy endpoints that ended");
    return std::make_unique<TcpEndpoint>(static_cast<TcpQueue&>(queue), *context_, listener,
                                         options);
  }

  const std::unique_ptr<DeviceContext> context_;
  const std::unique_ptr<Listener> listener_;
  const std::string address_;
  const Clock& clock_;
  const Capabilities capabilities_{.maps_remote = false,
                                   .max_message_bytes = kMaxMessageBytes,
                                   .max_endpoints = context_->places.most()};
};

Status check_encryption(const TcpOptions& options) {
  constexpr std::size_t kLeastSecretBytes = 16;
  constexpr std::uint64_t kLeastRekeyBytes = std::uint64_t{1} << 16;
  if (!options.encrypt) return {};
  if (options.secret.size() < kLeastSecretBytes)
    return Status(Code::kUnauthenticated,
                  fmt::format("encrypted data connections need the job secret: {} bytes are not {}",
                              options.secret.size(), kLeastSecretBytes))
        .with_hint(tls::kSecretHint);
  if (options.tls_rekey_bytes < kLeastRekeyBytes)
    return Status(Code::kInvalidArgument, "tls_rekey_bytes is below 64 KiB");
  struct sigaction pipe {};
  if (options.tls_offload &&
      (::sigaction(SIGPIPE, nullptr, &pipe) != 0 || pipe.sa_handler == SIG_DFL))
    return Status(Code::kInvalidArgument, "tls_offload would end this process by SIGPIPE")
        .with_hint("ignore the signal first: signal(SIGPIPE, SIG_IGN)");
  if (options.zerocopy != Zerocopy::kOff)
    return Status(Code::kInvalidArgument, "what is encrypted is not sent in place")
        .with_hint("choose zerocopy or encrypt, not both");
  return {};
}

Status check(const TcpOptions& options) {
  constexpr std::uint32_t kMaxBuffer = 1U << 30;
  if (options.send_buffer_bytes > kMaxBuffer || options.receive_buffer_bytes > kMaxBuffer ||
      options.most_unsent_bytes > kMaxBuffer)
    return Status(Code::kInvalidArgument, "a socket buffer above 1 GiB");
  if (options.max_endpoints == 0)
    return Status(Code::kInvalidArgument, "a tcp device without endpoints: max_endpoints is 0");
  return check_encryption(options);
}

Status set_zerocopy(Zerocopy wanted, DeviceContext& context) {
  if (wanted == Zerocopy::kOff) return {};
  context.sockets.zerocopy = socket::knows_zerocopy();
  if (context.sockets.zerocopy) context.zerocopy = wanted;
  if (context.sockets.zerocopy || wanted == Zerocopy::kAuto) return {};
  return Status(Code::kUnsupported, "this kernel has no MSG_ZEROCOPY")
      .with_hint("use Zerocopy::kAuto or kOff");
}

}  // namespace
}  // namespace tcp

Result<std::unique_ptr<Device>> open_tcp_device(const TcpOptions& options, const Clock& clock) {
  PENSTOCK_RETURN_IF_ERROR(tcp::check(options));
  auto context = std::make_unique<tcp::DeviceContext>(
      options.incarnation != 0 ? options.incarnation : random_u64(), options.max_endpoints);
  context->sockets = {.send_buffer = static_cast<int>(options.send_buffer_bytes),
                      .receive_buffer = static_cast<int>(options.receive_buffer_bytes),
                      .most_unsent = static_cast<int>(options.most_unsent_bytes)};
  PENSTOCK_RETURN_IF_ERROR(tcp::set_zerocopy(options.zerocopy, *context));
  if (options.encrypt) {
    PENSTOCK_ASSIGN_OR_RETURN(
        context->tls, tcp::TlsSetup::create(options.secret, options.job,
                                            {options.tls_rekey_bytes, options.tls_offload}));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::string host,
                            socket::advertised_host(options.bind_address, options.advertise_host));
  PENSTOCK_ASSIGN_OR_RETURN(
      UniqueFd listening, socket::listen_on(options.bind_address, options.port, context->sockets));
  PENSTOCK_ASSIGN_OR_RETURN(const std::uint16_t port, socket::bound_port(listening.get()));
  PENSTOCK_ASSIGN_OR_RETURN(
      std::unique_ptr<tcp::Listener> listener,
      tcp::Listener::create(std::move(listening),
                            {options.hello_timeout_ns, context->sockets, context->tls.get()},
                            context->counters.lend(), clock));
  return std::unique_ptr<Device>(
      std::make_unique<tcp::TcpDevice>(std::move(context), std::move(listener),
                                       tcp::device_address(host, port, options.encrypt), clock));
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/device.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <cerrno>
#include <optional>

#include "transport/base/log.h"
#include "transport/base/random.h"
#include "transport/verbs/async_events.h"
#include "transport/verbs/endpoint.h"
#include "transport/verbs/fork.h"
#include "transport/verbs/listener.h"
#include "transport/verbs/open.h"
#include "transport/verbs/queue.h"
#include "transport/verbs/region.h"

namespace penstock {
namespace verbs {
namespace {

constexpr std::uint32_t kMaxEndpoints = 1U << 16;  // queue pairs run out before
constexpr std::uint32_t kMaxSendDepth = 1U << 20;
constexpr std::uint32_t kMaxMessageBytes = 1U << 20;

class VerbsDevice final : public Device {
 public:
  VerbsDevice(const VerbsApi& api, const VerbsOptions& options, const Clock& clock,
              std::unique_ptr<CmChannel> cm, std::vector<std::unique_ptr<Rail>> rails,
              std::optional<GpuHost> gpus)
      : clock_(clock),
        context_{options.incarnation != 0 ? options.incarnation : random_u64(),
                 options.message_bytes},
        capabilities_{.maps_remote = false,
                      .max_message_bytes = options.message_bytes,
                      .max_endpoints = kMaxEndpoints},
        cm_(std::move(cm)),
        rails_(std::move(rails)),
        address_(device_address(addresses(rails_))),
        listener_(api),
        events_(rails_),
        gpus_(std::move(gpus)) {}

  Status start() {
    for (const std::unique_ptr<Rail>& rail : rails_)
      PENSTOCK_RETURN_IF_ERROR(listener_.listen(*rail));
    PENSTOCK_RETURN_IF_ERROR(events_.start());
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_.valid()) return Status::system("create an epoll descriptor", errno);
    std::vector<int> fds{cm_->fd()};
    for (const std::unique_ptr<Rail>& rail : rails_) {
      fds.push_back(rail->events()->async_fd);
      fds.push_back(rail->verbs()->async_fd);
    }
    for (const int fd : fds) {
      epoll_event event{};
      event.events = EPOLLIN;
      // Two ports of one device share what they report through.
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST)
        return Status::system("watch the RDMA device", errno);
    }
    return {};
  }

  ProviderKind kind() const override { return ProviderKind::kVerbs; }
  const Capabilities& capabilities() const override { return capabilities_; }
  const std::string& address() const override { return address_; }

  Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, MemoryKind kind,
                                                        Access access, PeerScope scope) override {
    std::optional<GpuMemory> gpu;
    if (kind == MemoryKind::kCuda) {
      PENSTOCK_ASSIGN_OR_RETURN(const GpuHost* host, gpu_host());
      PENSTOCK_ASSIGN_OR_RETURN(GpuMemory found, find_gpu_memory(*host, rails_, bytes));
      gpu.emplace(std::move(found));
    }
    PENSTOCK_ASSIGN_OR_RETURN(
        auto region,
        VerbsRegion::create(rails_, bytes, access, scope, context_.incarnation, std::move(gpu)));
    return std::unique_ptr<MemoryRegion>(std::move(region));
  }

  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(std::uint32_t depth) override {
    PENSTOCK_ASSIGN_OR_RETURN(auto queue, VerbsQueue::create(rails_, events_, clock_, depth));
    return std::unique_ptr<CompletionQueue>(std::move(queue));
  }

  Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue, const std::string& address,
                                            const EndpointOptions& options) override {
    PENSTOCK_RETURN_IF_ERROR(check(options));
    PENSTOCK_ASSIGN_OR_RETURN(const std::vector<IpAddress> peer, parse_device_address(address));
    auto endpoint = make_endpoint(queue, nullptr, options);
    PENSTOCK_RETURN_IF_ERROR(endpoint->start(peer));
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }

  Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                           const EndpointOptions& options) override {
    PENSTOCK_RETURN_IF_ERROR(check(options));
    auto endpoint = make_endpoint(queue, &listener_, options);
    PENSTOCK_RETURN_IF_ERROR(listener_.await(options.token, inner(queue), endpoint->serial()));
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }

  std::size_t progress() override {
    std::size_t done = events_.take();
    CmEvent event;
    for (; cm_->take(event); ++done) {
      if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST) listener_.on_request(event);
    }
    return done;
  }
  int fd() const override { return epoll_.get(); }

  std::vector<Counter> counters() const override;

 private:
  static VerbsQueue& inner(CompletionQueue& queue) { return static_cast<VerbsQueue&>(queue); }
  static Status check(const EndpointOptions& options) {
    if (options.send_depth > 0 && options.send_depth <= kMaxSendDepth) return {};
    return Status(Code::kInvalidArgument,
                  fmt::format("send_depth {} is not in 1 … {}", options.send_depth, kMaxSendDepth));
  }
  std::unique_ptr<VerbsEndpoint> make_endpoint(CompletionQueue& queue, Listener* listener,
                                               const EndpointOptions& options) {
    return std::make_unique<VerbsEndpoint>(inner(queue), context_, listener, options);
  }
  Result<const GpuHost*> gpu_host() {
    MutexLock lock(gpus_mutex_);
    if (!gpus_) {
      PENSTOCK_ASSIGN_OR_RETURN(gpus_, this_gpu_host());
    }
    return &*gpus_;  // never changes again
  }
  static std::vector<IpAddress> addresses(std::span<const std::unique_ptr<Rail>> rails) {
    std::vector<IpAddress> all;
    for (const std::unique_ptr<Rail>& rail : rails) all.push_back(rail->address());
    return all;
  }

  const Clock& clock_;
  const EndpointContext context_;
  const Capabilities capabilities_;
  const std::unique_ptr<CmChannel> cm_;
  const std::vector<std::unique_ptr<Rail>> rails_;
  const std::string address_;
  Listener listener_;
  AsyncEvents events_;
  UniqueFd epoll_;
  Mutex gpus_mutex_;
  std::optional<GpuHost> gpus_ GUARDED_BY(gpus_mutex_);  // looked at when first needed
};

std::vector<Counter> VerbsDevice::counters() const {
  std::vector<Counter> all;
  for (const std::unique_ptr<Rail>& rail : rails_) {
    RailCounts& counts = rail->counts();
    const auto take = [&](const char* name, const RailCounts::Count& count) {
      all.push_back(
          {fmt::format("{}.{}", rail->name(), name), count.load(std::memory_order_relaxed)});
    };
    take("posts", counts.posts);
    take("bytes_sent", counts.bytes_sent);
    take("bytes_read", counts.bytes_read);
    take("doorbells", counts.doorbells);
    take("signalled", counts.signalled);
    take("credit_waits", counts.credit_waits);
    take("credits_sent", counts.credits_sent);
    take("retry_errors", counts.retry_errors);
    take("rnr_errors", counts.rnr_errors);
    take("other_errors", counts.other_errors);
    take("stray_completions", counts.strays);
    take("registrations", counts.registrations);
  }
  return all;
}

}  // namespace
}  // namespace verbs

Result<std::unique_ptr<Device>> open_verbs_device(const verbs::VerbsApi& api,
                                                  const VerbsOptions& options, const Clock& clock,
                                                  std::optional<GpuHost> gpus) {
  if (options.message_bytes > verbs::kMaxMessageBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("message_bytes {} is above {}", options.message_bytes,
                              verbs::kMaxMessageBytes));
  PENSTOCK_RETURN_IF_ERROR(verbs::require_devices(api));
  // Before anything is registered. Too late is no reason to refuse: most processes never fork.
  if (const Status unsafe = verbs::make_fork_safe(api); !unsafe.ok())
    PENSTOCK_LOG_WARN("{}", unsafe.to_string());
  PENSTOCK_ASSIGN_OR_RETURN(auto cm, verbs::CmChannel::create(api));
  PENSTOCK_ASSIGN_OR_RETURN(auto rails, verbs::open_rails(api, options, *cm));
  auto device = std::make_unique<verbs::VerbsDevice>(api, options, clock, std::move(cm),
                                                     std::move(rails), std::move(gpus));
  PENSTOCK_RETURN_IF_ERROR(device->start());
  return std::unique_ptr<Device>(std::move(device));
}

Result<std::unique_ptr<Device>> open_verbs_device(const VerbsOptions& options, const Clock& clock) {
  PENSTOCK_ASSIGN_OR_RETURN(const verbs::VerbsApi* api, verbs::system_verbs());
  return open_verbs_device(*api, options, clock);
}

}  // namespace penstock

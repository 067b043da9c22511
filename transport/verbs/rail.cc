// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/rail.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/base/check.h"

namespace penstock::verbs {
namespace {

// Reads kept outstanding on one queue pair; more gains nothing and costs the responder memory.
constexpr int kReads = 16;
constexpr TimeNs kFirstPauseNs = 500 * kMillisecond;
constexpr TimeNs kLongestPauseNs = 60 * kSecond;
constexpr int kMostDoublings = 10;

// Of IBTA's codes for lanes and rate; anything new counts as one lane, the slowest.
double link_speed(const ibv_port_attr& port) {
  double lanes = 1;
  if (port.active_width == 2) lanes = 4;
  if (port.active_width == 4) lanes = 8;
  if (port.active_width == 8) lanes = 12;
  if (port.active_width == 16) lanes = 2;
  constexpr std::array<double, 8> kGigabits{2.5, 5, 10, 10, 14, 25, 50, 100};
  double lane = kGigabits[0];
  for (std::size_t bit = 0; bit < kGigabits.size(); ++bit)
    if (port.active_speed == 1U << bit) lane = kGigabits[bit];
  return lanes * lane;
}

}  // namespace

void RailHealth::fail(TimeNs now_ns) {
  if (now_ns < paused_until_ns()) return;  // its other connections fail for the same reason
  const int before = std::min(failures_.fetch_add(1, std::memory_order_relaxed), kMostDoublings);
  const TimeNs pause_ns = std::min(kFirstPauseNs << before, kLongestPauseNs);
  paused_until_ns_.store(now_ns + pause_ns, std::memory_order_relaxed);
}

Result<std::unique_ptr<Rail>> Rail::open(const VerbsApi& api, ibv_context* own, std::string name,
                                         std::size_t index, std::uint8_t port,
                                         const IpAddress& address, CmChannel& channel) {
  std::unique_ptr<Rail> self(new Rail(api, own, std::move(name), index, port));
  PENSTOCK_RETURN_IF_ERROR(self->bind(address, channel));
  PENSTOCK_RETURN_IF_ERROR(self->query());
  return self;
}

Rail::~Rail() {
  CHECK(domains_.empty(), "a rail is closed before its regions and endpoints");
  if (listening_ != nullptr) api_.rdma_destroy_id(listening_);
  api_.ibv_close_device(own_);
}

Status Rail::bind(const IpAddress& address, CmChannel& channel) {
  if (api_.rdma_create_id(channel.get(), &listening_, nullptr, RDMA_PS_TCP) != 0) {
    listening_ = nullptr;
    return Status::system("open rdma_cm", errno)
        .with_hint("is the kernel module rdma_ucm loaded, and /dev/infiniband/rdma_cm readable?");
  }
  address_ = address;
  address_.set_port(0);
  if (api_.rdma_bind_addr(listening_, address_.get()) != 0)
    return Status::system(fmt::format("bind rdma_cm to {} of {}", address_.host(), name_), errno)
        .with_hint("is the address of the port's GID still on the network device?");
  if (listening_->verbs == nullptr)
    return Status(Code::kUnsupported,
                  fmt::format("{}: rdma_cm finds no RDMA device at {}", name_, address_.host()))
        .with_hint("choose another GID index");
  address_.set_port(ntohs(api_.rdma_get_src_port(listening_)));
  return {};
}

Status Rail::query() {
  ibv_device_attr device{};
  if (const int error = api_.ibv_query_device(verbs(), &device); error != 0)
    return Status::system(fmt::format("query {}", name_), error);
  ibv_port_attr port{};
  if (const int error = api_.ibv_query_port(verbs(), port_, &port); error != 0)
    return Status::system(fmt::format("query the port {}", name_), error);
  limits_.completions = static_cast<std::uint32_t>(device.max_cqe);
  limits_.receives = static_cast<std::uint32_t>(device.max_srq_wr);
  limits_.send_slots = static_cast<std::uint32_t>(device.max_qp_wr);
  limits_.message_bytes = port.max_msg_sz;
  limits_.reads = static_cast<std::uint8_t>(std::min(device.max_qp_rd_atom, kReads));
  limits_.vectors = std::max(verbs()->num_comp_vectors, 1);
  limits_.speed = link_speed(port);
  return {};
}

bool Rail::ask_down() {
  ibv_port_attr port{};
  if (api_.ibv_query_port(verbs(), port_, &port) == 0 && port.state < IBV_PORT_ACTIVE)
    health_.set_down(true);  // until its event says otherwise
  return health_.down();
}

Result<Domain*> Rail::acquire(PeerScope scope) {
  MutexLock lock(mutex_);
  for (const std::unique_ptr<Domain>& domain : domains_) {
    if (domain->scope != scope) continue;
    ++domain->users;
    return domain.get();
  }
  ibv_pd* pd = api_.ibv_alloc_pd(verbs());
  if (pd == nullptr)
    return Status::system(fmt::format("allocate a protection domain on {}", name_), errno);
  domains_.push_back(std::make_unique<Domain>(Domain{*this, scope, pd}));
  return domains_.back().get();
}

void Rail::release(Domain* domain) {
  MutexLock lock(mutex_);
  if (--domain->users > 0) return;
  CHECK(api_.ibv_dealloc_pd(domain->pd) == 0, "a protection domain is still in use");
  std::erase_if(domains_, [domain](const auto& each) { return each.get() == domain; });
}

}  // namespace penstock::verbs

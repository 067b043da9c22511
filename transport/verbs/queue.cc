// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/queue.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <tuple>

#include "transport/base/check.h"
#include "transport/verbs/async_events.h"
#include "transport/verbs/listener.h"

namespace penstock::verbs {
namespace {

// A poll that finds completions looks at rdma_cm and the inbox this rarely, and one that finds
// none this often: looking is a system call.
constexpr std::uint64_t kBusyPasses = 256;
constexpr std::uint64_t kIdlePasses = 16;

// What a ready descriptor stands for; from kFirstRail on, a rail's completion channel.
constexpr std::uint64_t kInbox = 0, kConnections = 1, kFirstRail = 2;

}  // namespace

VerbsQueue::VerbsQueue(AsyncEvents& news, const Clock& clock, std::uint32_t window)
    : news_(news), clock_(clock), window_(window) {}

Result<std::unique_ptr<VerbsQueue>> VerbsQueue::create(std::span<const std::unique_ptr<Rail>> rails,
                                                       AsyncEvents& news, const Clock& clock,
                                                       std::uint32_t depth) {
  const std::uint32_t window = std::clamp(depth, std::uint32_t{1}, Path::kMaxWindow);
  std::unique_ptr<VerbsQueue> self(new VerbsQueue(news, clock, window));
  self->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  self->wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!self->epoll_.valid() || !self->wake_.valid())
    return Status::system("create a queue's descriptors", errno);
  PENSTOCK_ASSIGN_OR_RETURN(self->cm_, CmChannel::create(rails[0]->api()));
  PENSTOCK_RETURN_IF_ERROR(self->watch(self->wake_.get(), kInbox));
  PENSTOCK_RETURN_IF_ERROR(self->watch(self->cm_->fd(), kConnections));
  for (const std::unique_ptr<Rail>& rail : rails) {
    PENSTOCK_ASSIGN_OR_RETURN(auto queue, RailQueue::create(*rail, news.queues_made()));
    self->rails_.push_back(std::move(queue));
    PENSTOCK_RETURN_IF_ERROR(
        self->watch(self->rails_.back()->fd(), kFirstRail + self->rails_.size() - 1));
  }
  news.add(*self);
  return self;
}

VerbsQueue::~VerbsQueue() {
  CHECK(endpoints_.empty(), "a queue is destroyed before its endpoints");
  news_.remove(*this);
  if (!rails_.empty()) take_inbox();  // refuses what is left
  kept_.clear();
}

Status VerbsQueue::watch(int fd, std::uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Status::system("watch a queue's descriptor", errno);
}

std::size_t VerbsQueue::poll(std::span<Completion> out) {
  ++pass_;
  if (inbox_filled_.load(std::memory_order_acquire)) take_inbox();  // pairs with hand_over()
  if (next_deadline_ns_ != kNever && clock_.now_ns() >= next_deadline_ns_) check_deadlines();
  const bool idle = take_completions() == 0;
  if (slept_ || pass_ % (idle ? kIdlePasses : kBusyPasses) == 0) take_events();
  EventSink sink(out);
  step_ready(sink);
  if (!kept_.empty()) std::erase_if(kept_, [](const auto& path) { return path->gone(); });
  return sink.count();
}

void VerbsQueue::step_ready(EventSink& sink) {
  for (std::size_t turns = ready_count_; turns > 0; --turns) {
    VerbsEndpoint& endpoint = *pop_ready();
    if (endpoint.step(sink, pass_)) mark_ready(endpoint);
  }
}

bool VerbsQueue::arm() {
  slept_ = true;
  if (ready_count_ > 0 || inbox_filled_.load(std::memory_order_acquire)) return false;
  for (const std::unique_ptr<RailQueue>& rail : rails_)
    if (!rail->request_event().ok()) return false;
  // What came before the request raises no event.
  return take_completions() == 0;
}

std::size_t VerbsQueue::take_completions() {
  std::size_t count = 0;
  for (const std::unique_ptr<RailQueue>& rail : rails_) count += rail->take_completions();
  return count;
}

RailQueue& VerbsQueue::choose_rail(std::size_t count) const {
  const TimeNs now_ns = clock_.now_ns();
  const auto cost = [now_ns](const std::unique_ptr<RailQueue>& queue) {
    Rail& rail = queue->rail();
    const double share = (rail.health().connections() + 1) / rail.limits().speed;
    const TimeNs until_ns = rail.health().paused(now_ns) ? rail.health().paused_until_ns() : 0;
    // If all are paused, the one whose pause ends first.
    return std::tuple(rail.health().down(), until_ns, share);
  };
  const auto last = rails_.begin() + static_cast<std::ptrdiff_t>(std::min(count, rails_.size()));
  return **std::min_element(rails_.begin(), last,
                            [&](const auto& a, const auto& b) { return cost(a) < cost(b); });
}

void VerbsQueue::take_events() {
  slept_ = false;
  std::array<epoll_event, kFirstRail + kMaxRails> ready;
  const int count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t tag = ready[static_cast<std::size_t>(i)].data.u64;
    std::uint64_t wakes = 0;
    if (tag == kInbox)
      (void)!::read(wake_.get(), &wakes, sizeof wakes);  // poll() looks into it by itself
    else if (tag == kConnections)
      take_cm_events();
    else
      rails_[tag - kFirstRail]->take_event();
  }
}

void VerbsQueue::take_cm_events() {
  CmEvent event;
  while (cm_->take(event))
    if (event.context != nullptr) static_cast<Path*>(event.context)->on_cm_event(event);
}

Status VerbsQueue::hand_over(const Adoption& adoption) {
  if (api().rdma_migrate_id(adoption.id, cm_->get()) != 0)
    return Status::system("hand a connection over", errno);
  {
    MutexLock lock(mutex_);
    adoptions_.push_back(adoption);
    inbox_filled_.store(true, std::memory_order_release);  // pairs with poll() and arm()
  }
  wake();
  return {};
}

void VerbsQueue::tell(const Notice& notice) {
  {
    MutexLock lock(mutex_);
    notices_.push_back(notice);
    inbox_filled_.store(true, std::memory_order_release);  // pairs with poll() and arm()
  }
  wake();
}

void VerbsQueue::wake() {
  const std::uint64_t one = 1;
  CHECK(::write(wake_.get(), &one, sizeof one) == sizeof one);
}

void VerbsQueue::take_inbox() {
  std::vector<Adoption> adoptions;
  std::vector<Notice> notices;
  {
    MutexLock lock(mutex_);
    adoptions.swap(adoptions_);
    notices.swap(notices_);
    inbox_filled_.store(false, std::memory_order_relaxed);
  }
  for (const Notice& notice : notices) act_on(notice);
  for (const Adoption& adoption : adoptions) {
    const auto found = std::find_if(endpoints_.begin(), endpoints_.end(), [&](VerbsEndpoint* each) {
      return each->serial() == adoption.serial;
    });
    if (found != endpoints_.end())
      (*found)->adopt(adoption);
    else
      refuse(api(), adoption.id, Status(Code::kConnectionLost, "the endpoint no longer waits"));
  }
}

void VerbsQueue::act_on(const Notice& notice) {
  if (notice.reason.ok()) {
    for (VerbsEndpoint* endpoint : endpoints_) endpoint->on_rail_back();
    return;
  }
  RailQueue& rail = *rails_[notice.rail];
  if (notice.cq != nullptr && notice.cq != rail.cq()) return;
  if (notice.srq != nullptr && notice.srq != rail.receives().get()) return;
  if (notice.qp != 0) return rail.fail(notice.qp, notice.reason);
  for (VerbsEndpoint* endpoint : endpoints_) endpoint->on_rail_lost(rail, notice.reason);
}

void VerbsQueue::check_deadlines() {
  const TimeNs now_ns = clock_.now_ns();
  next_deadline_ns_ = kNever;
  for (VerbsEndpoint* endpoint : endpoints_) {
    endpoint->check_deadline(now_ns);
    next_deadline_ns_ = std::min(next_deadline_ns_, endpoint->deadline_ns());
  }
}

std::uint64_t VerbsQueue::attach(VerbsEndpoint& endpoint, TimeNs deadline_ns) {
  endpoints_.push_back(&endpoint);
  next_deadline_ns_ = std::min(next_deadline_ns_, deadline_ns);
  return next_serial_++;
}

void VerbsQueue::detach(VerbsEndpoint& endpoint) {
  std::erase(endpoints_, &endpoint);
  // Rare: turn the ready list once and leave the endpoint out.
  for (std::size_t turns = ready_count_; turns > 0; --turns) {
    VerbsEndpoint* other = pop_ready();
    if (other != &endpoint) mark_ready(*other);
  }
}

void VerbsQueue::mark_ready(VerbsEndpoint& endpoint) {
  if (endpoint.in_ready_list_) return;
  endpoint.in_ready_list_ = true;
  endpoint.next_ready_ = nullptr;
  (ready_tail_ != nullptr ? ready_tail_->next_ready_ : ready_head_) = &endpoint;
  ready_tail_ = &endpoint;
  ++ready_count_;
}

VerbsEndpoint* VerbsQueue::pop_ready() {
  VerbsEndpoint* endpoint = ready_head_;
  CHECK(endpoint != nullptr);
  ready_head_ = endpoint->next_ready_;
  if (ready_head_ == nullptr) ready_tail_ = nullptr;
  endpoint->in_ready_list_ = false;
  --ready_count_;
  return endpoint;
}

}  // namespace penstock::verbs

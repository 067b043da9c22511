// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/queue.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/base/check.h"

namespace penstock::shm {
namespace {

// Events taken per system call; more wait for the next poll.
constexpr int kMaxEvents = 64;
// A peer that dies says nothing in shared memory: the kernel is asked every so many idle polls.
constexpr std::uint64_t kIdlePassesPerWait = 64;

}  // namespace

Result<std::unique_ptr<ShmQueue>> ShmQueue::create(const Clock& clock) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::system("create an epoll descriptor", errno);
  UniqueFd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell.valid()) return Status::system("create an event descriptor", errno);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // never read: each write is a new edge
  event.data.ptr = nullptr;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, bell.get(), &event) != 0)
    return Status::system("watch an event descriptor", errno);
  return std::unique_ptr<ShmQueue>(new ShmQueue(clock, std::move(epoll), std::move(bell)));
}

ShmQueue::ShmQueue(const Clock& clock, UniqueFd epoll, UniqueFd bell)
    : clock_(clock), epoll_(std::move(epoll)), bell_(std::move(bell)) {}

ShmQueue::~ShmQueue() { CHECK(endpoints_.empty(), "a queue is destroyed before its endpoints"); }

std::size_t ShmQueue::poll(std::span<Completion> out) {
  ++pass_;
  if (asleep_) {
    wake();
    take_events();
  }
  if (inbox_filled_.load(std::memory_order_acquire)) take_inbox();  // pairs with hand_over()
  if (next_deadline_ns_ != kNever && clock_.now_ns() >= next_deadline_ns_) check_deadlines();
  EventSink sink(out);
  step_all(sink);
  if (sink.count() == 0 && pass_ % kIdlePassesPerWait == 0 && take_events()) step_all(sink);
  return sink.count();
}

void ShmQueue::step_all(EventSink& sink) {
  const std::size_t count = endpoints_.size();
  if (count == 0) return;
  first_ = (first_ + 1) % count;
  for (std::size_t i = 0; i < count; ++i) endpoints_[(first_ + i) % count]->step(sink, pass_);
}

bool ShmQueue::take_events() {
  std::array<epoll_event, kMaxEvents> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kMaxEvents, 0);
  for (int i = 0; i < count; ++i)
    if (auto* endpoint = static_cast<ShmEndpoint*>(events[static_cast<std::size_t>(i)].data.ptr))
      endpoint->look_at_socket();
  return count > 0;
}

bool ShmQueue::arm() {
  asleep_ = true;
  ++sleeps_;
  for (ShmEndpoint* endpoint : endpoints_) endpoint->set_asleep(sleeps_);
  const bool busy = inbox_filled_.load(std::memory_order_acquire) ||
                    std::any_of(endpoints_.begin(), endpoints_.end(),
                                [](const ShmEndpoint* endpoint) { return endpoint->wants_step(); });
  if (busy) wake();
  return !busy;
}

void ShmQueue::wake() {
  asleep_ = false;
  for (ShmEndpoint* endpoint : endpoints_) endpoint->set_asleep(0);
}

void ShmQueue::hand_over(Adoption adoption) {
  {
    MutexLock lock(mutex_);
    inbox_.push_back(std::move(adoption));
    inbox_filled_.store(true, std::memory_order_release);  // pairs with poll() and arm()
  }
  const std::uint64_t one = 1;
  CHECK(::write(bell_.get(), &one, sizeof one) == sizeof one);
}

void ShmQueue::take_inbox() {
  std::vector<Adoption> adoptions;
  {
    MutexLock lock(mutex_);
    adoptions.swap(inbox_);
    inbox_filled_.store(false, std::memory_order_relaxed);
  }
  for (Adoption& adoption : adoptions) {
    const auto found = std::find_if(endpoints_.begin(), endpoints_.end(),
                                    [&](ShmEndpoint* e) { return e->serial() == adoption.serial; });
    if (found != endpoints_.end()) (*found)->adopt(std::move(adoption));
  }
}

void ShmQueue::check_deadlines() {
  const TimeNs now_ns = clock_.now_ns();
  next_deadline_ns_ = kNever;
  for (ShmEndpoint* endpoint : endpoints_) {
    endpoint->check_deadline(now_ns);
    next_deadline_ns_ = std::min(next_deadline_ns_, endpoint->deadline_ns());
  }
}

std::uint64_t ShmQueue::attach(ShmEndpoint& endpoint, TimeNs deadline_ns) {
  endpoints_.push_back(&endpoint);
  next_deadline_ns_ = std::min(next_deadline_ns_, deadline_ns);
  return next_serial_++;
}

void ShmQueue::detach(ShmEndpoint& endpoint) { std::erase(endpoints_, &endpoint); }

Status ShmQueue::watch(int fd, ShmEndpoint& endpoint) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &endpoint;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Status::system("watch a connection", errno);
}

void ShmQueue::unwatch(int fd) {
  CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) == 0);
}

}  // namespace penstock::shm

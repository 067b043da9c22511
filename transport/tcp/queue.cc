// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/queue.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/base/check.h"

namespace penstock::tcp {
namespace {

// Socket events taken per system call; more wait for the next poll.
constexpr int kMaxSocketEvents = 64;
// While some sockets are hot the others are looked at every so many polls.
constexpr std::uint64_t kPassesPerWait = 8;
// A refused peer has this long, and this many bytes in flight, to read why.
constexpr TimeNs kLingerNs = kSecond;
constexpr std::size_t kLingerBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxLingering = 64;
constexpr std::size_t kDropBytes = std::size_t{1} << 20;

}  // namespace

Result<std::unique_ptr<TcpQueue>> TcpQueue::create(CounterBook& book, const Clock& clock) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::system("create an epoll descriptor", errno);
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Status::system("create an event descriptor", errno);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // never read: each write is a new edge
  event.data.ptr = nullptr;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
    return Status::system("watch an event descriptor", errno);
  return std::unique_ptr<TcpQueue>(new TcpQueue(book, clock, std::move(epoll), std::move(wake)));
}

TcpQueue::TcpQueue(CounterBook& book, const Clock& clock, UniqueFd epoll, UniqueFd wake)
    : book_(book),
      counters_(book.lend()),
      clock_(clock),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)) {
  lingering_.reserve(kMaxLingering);
}

TcpQueue::~TcpQueue() {
  CHECK(endpoints_.empty(), "a queue is destroyed before its endpoints");
  book_.take_back(counters_);
}

std::size_t TcpQueue::poll(std::span<Completion> out) {
  ++pass_;
  if (inbox_filled_.load(std::memory_order_acquire)) take_inbox();  // pairs with hand_over()
  if (next_deadline_ns_ != kNever && clock_.now_ns() >= next_deadline_ns_) check_deadlines();
  if (!lingering_.empty()) drop_lingering();
  EventSink sink(out);
  step_ready(sink);
  if ((sink.count() == 0 || pass_ % kPassesPerWait == 0) && take_socket_events()) step_ready(sink);
  return sink.count();
}

void TcpQueue::step_ready(EventSink& sink) {
  for (std::size_t turns = ready_count_; turns > 0 && sink.room(); --turns) {
    TcpEndpoint& endpoint = *pop_ready();
    if (endpoint.step(sink, pass_)) mark_ready(endpoint);
  }
}

bool TcpQueue::take_socket_events() {
  std::array<epoll_event, kMaxSocketEvents> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kMaxSocketEvents, 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (auto* endpoint = static_cast<TcpEndpoint*>(event.data.ptr)) {
      endpoint->on_socket_events(event.events);
      mark_ready(*endpoint);
    }
  }
  return count > 0;
}

bool TcpQueue::arm() {
  for (std::size_t turns = ready_count_; turns > 0; --turns) {
    TcpEndpoint& endpoint = *pop_ready();
    if (endpoint.settle()) mark_ready(endpoint);
  }
  return ready_count_ == 0 && !inbox_filled_.load(std::memory_order_acquire);
}

void TcpQueue::hand_over(Adoption adoption) {
  // The wake-up too: whoever finds the adoption may destroy the queue once it has the mutex.
  MutexLock lock(mutex_);
  inbox_.push_back(std::move(adoption));
  inbox_filled_.store(true, std::memory_order_release);  // pairs with poll() and arm()
  const std::uint64_t one = 1;
  CHECK(::write(wake_.get(), &one, sizeof one) == sizeof one);
}

void TcpQueue::take_inbox() {
  std::vector<Adoption> adoptions;
  {
    MutexLock lock(mutex_);
    adoptions.swap(inbox_);
    inbox_filled_.store(false, std::memory_order_relaxed);
  }
  for (Adoption& adoption : adoptions) {
    const auto found = std::find_if(endpoints_.begin(), endpoints_.end(),
                                    [&](TcpEndpoint* e) { return e->serial() == adoption.serial; });
    if (found != endpoints_.end()) (*found)->adopt(std::move(adoption));
  }
}

void TcpQueue::check_deadlines() {
  const TimeNs now_ns = clock_.now_ns();
  next_deadline_ns_ = kNever;
  for (TcpEndpoint* endpoint : endpoints_) {
    endpoint->check_deadline(now_ns);
    next_deadline_ns_ = std::min(next_deadline_ns_, endpoint->deadline_ns());
  }
}

std::uint64_t TcpQueue::attach(TcpEndpoint& endpoint, TimeNs deadline_ns) {
  endpoints_.push_back(&endpoint);
  next_deadline_ns_ = std::min(next_deadline_ns_, deadline_ns);
  return next_serial_++;
}

void TcpQueue::detach(TcpEndpoint& endpoint) {
  std::erase(endpoints_, &endpoint);
  // Rare: turn the ready list once and leave the endpoint out.
  for (std::size_t turns = ready_count_; turns > 0; --turns) {
    TcpEndpoint* other = pop_ready();
    if (other != &endpoint) mark_ready(*other);
  }
}

void TcpQueue::mark_ready(TcpEndpoint& endpoint) {
  if (endpoint.in_ready_list_) return;
  endpoint.in_ready_list_ = true;
  endpoint.next_ready_ = nullptr;
  (ready_tail_ != nullptr ? ready_tail_->next_ready_ : ready_head_) = &endpoint;
  ready_tail_ = &endpoint;
  ++ready_count_;
}

TcpEndpoint* TcpQueue::pop_ready() {
  TcpEndpoint* endpoint = ready_head_;
  CHECK(endpoint != nullptr);
  ready_head_ = endpoint->next_ready_;
  if (ready_head_ == nullptr) ready_tail_ = nullptr;
  endpoint->in_ready_list_ = false;
  --ready_count_;
  return endpoint;
}

Status TcpQueue::watch(int fd, TcpEndpoint& endpoint, bool writable) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (writable ? std::uint32_t{EPOLLOUT} : 0U);
  event.data.ptr = &endpoint;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Status::system("watch a connection", errno);
}

void TcpQueue::rewatch(int fd, TcpEndpoint& endpoint, bool writable) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (writable ? std::uint32_t{EPOLLOUT} : 0U);
  event.data.ptr = &endpoint;
  CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0);
}

void TcpQueue::linger(UniqueFd fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  event.data.ptr = nullptr;  // its endpoint may go away
  CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd.get(), &event) == 0);
  ::shutdown(fd.get(), SHUT_WR);
  if (lingering_.size() == kMaxLingering) lingering_.erase(lingering_.begin());
  lingering_.push_back({std::move(fd), clock_.now_ns() + kLingerNs, kLingerBytes});
}

void TcpQueue::drop_lingering() {
  const TimeNs now_ns = clock_.now_ns();
  std::erase_if(lingering_, [now_ns](Lingering& connection) {
    // MSG_TRUNC drops the bytes in the kernel.
    const ssize_t got = ::recv(connection.fd.get(), nullptr, kDropBytes, MSG_TRUNC | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return true;
    const auto dropped = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    if (dropped >= connection.bytes_left || now_ns >= connection.until_ns) return true;
    connection.bytes_left -= dropped;
    return false;
  });
}

}  // namespace penstock::tcp

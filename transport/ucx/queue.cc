// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/queue.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/base/check.h"
#include "transport/base/random.h"

namespace penstock::ucx {
namespace {

constexpr int kMaxSocketEvents = 64;
// The rendezvous sockets matter when connections come and go: looked at every so many polls, a
// system call that the others save.
constexpr std::uint64_t kPassesPerLook = 16;
// UCX moves a bounded piece per turn; more turns per poll keep a busy link busy.
constexpr int kTurnsPerPoll = 4;
// Lent messages of one poll before the list grows.
constexpr std::size_t kLentReserve = 1024;

std::uint32_t slot_of(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

Status add_to(int epoll, int fd, std::uint32_t events, void* tag) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = tag;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Status::system("watch a descriptor", errno);
}

}  // namespace

void QueueList::add(UcxQueue& queue) {
  MutexLock lock(mutex_);
  queues_.push_back(&queue);
}

void QueueList::remove(UcxQueue& queue) {
  MutexLock lock(mutex_);
  std::erase(queues_, &queue);
}

void QueueList::drive(std::uint64_t key, bool cut) {
  MutexLock lock(mutex_);
  for (UcxQueue* queue : queues_) queue->drive(key, cut);
}

Result<std::unique_ptr<UcxQueue>> UcxQueue::create(const Context& context, QueueList& siblings,
                                                   const Clock& clock) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::system("create an epoll descriptor", errno);
  UniqueFd sockets(::epoll_create1(EPOLL_CLOEXEC));
  if (!sockets.valid()) return Status::system("create an epoll descriptor", errno);
  PENSTOCK_RETURN_IF_ERROR(add_to(epoll.get(), sockets.get(), EPOLLIN, nullptr));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Status::system("create an event descriptor", errno);
  // Edge-triggered and never read: each write is a new edge.
  PENSTOCK_RETURN_IF_ERROR(add_to(sockets.get(), wake.get(), EPOLLIN | EPOLLET, nullptr));
  return std::unique_ptr<UcxQueue>(new UcxQueue(context, siblings, clock, std::move(epoll),
                                                std::move(sockets), std::move(wake)));
}

UcxQueue::UcxQueue(const Context& context, QueueList& siblings, const Clock& clock, UniqueFd epoll,
                   UniqueFd sockets, UniqueFd wake)
    : context_(context),
      siblings_(siblings),
      clock_(clock),
      epoll_(std::move(epoll)),
      sockets_(std::move(sockets)),
      wake_(std::move(wake)) {
  lent_.reserve(kLentReserve);
  siblings_.add(*this);
}

UcxQueue::~UcxQueue() {
  siblings_.remove(*this);
  CHECK(std::all_of(connections_.begin(), connections_.end(), [](auto* c) { return c == nullptr; }),
        "a queue is destroyed before its endpoints");
  take_back_lent();
}

Result<Worker*> UcxQueue::worker(std::unique_ptr<Worker>& made) {
  if (made) return made.get();
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker, Worker::create(context_, *this));
  PENSTOCK_RETURN_IF_ERROR(add_to(epoll_.get(), worker->fd(), EPOLLIN, nullptr));
  made = std::move(worker);
  return made.get();
}

std::size_t UcxQueue::poll(std::span<Completion> out) {
  MutexLock lock(gate_);
  ++pass_;
  take_back_lent();
  if (inbox_filled_.load(std::memory_order_acquire)) take_inbox();  // pairs with hand_over()
  if (next_deadline_ns_ != kNever && clock_.now_ns() >= next_deadline_ns_) check_deadlines();
  if (pass_ % kPassesPerLook == 0) take_socket_events();
  progress();
  EventSink sink(out);
  step_ready(sink);
  return sink.count();
}

void UcxQueue::progress() {
  for (const auto* worker : {&connecting_, &accepting_}) {
    if (*worker == nullptr) continue;
    for (int turn = 0; turn < kTurnsPerPoll && (*worker)->progress(); ++turn) {
    }
  }
}

void UcxQueue::step_ready(EventSink& sink) {
  for (std::size_t turns = ready_count_; turns > 0 && sink.room(); --turns) {
    Connection& connection = *pop_ready();
    if (connection.step(sink)) mark_ready(connection);
  }
}

void UcxQueue::take_socket_events() {
  std::array<epoll_event, kMaxSocketEvents> events;
  const int count = ::epoll_wait(sockets_.get(), events.data(), kMaxSocketEvents, 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    auto* connection = static_cast<Connection*>(event.data.ptr);
    if (connection == nullptr) continue;
    connection->on_socket_events(event.events);
    mark_ready(*connection);
  }
}

bool UcxQueue::arm() {
  MutexLock lock(gate_);
  take_socket_events();
  for (std::size_t turns = ready_count_; turns > 0; --turns) {
    Connection& connection = *pop_ready();
    if (connection.settle()) mark_ready(connection);
  }
  if (ready_count_ > 0) {
    // An acknowledgement that is still being sent holds up the next one. Whatever else comes of it
    // is for the next poll().
    progress();
    for (Connection* ready = ready_head_; ready != nullptr; ready = ready->next_ready_)
      (void)ready->settle();
    return false;
  }
  if (inbox_filled_.load(std::memory_order_acquire)) return false;
  // UCX refuses while it has something to say. What it sends from now on it sends by itself or
  // wakes us for.
  for (const auto* worker : {&connecting_, &accepting_})
    if (*worker != nullptr && !(*worker)->arm()) return false;
  return true;
}

void UcxQueue::drive(std::uint64_t key, bool cut) {
  MutexLock lock(gate_);
  progress();
  if (!cut) return;
  for (Connection* connection : connections_)
    if (connection != nullptr) connection->cut_if_using(key);
}

void UcxQueue::hand_over(Adoption adoption) {
  {
    MutexLock lock(inbox_mutex_);
    inbox_.push_back(std::move(adoption));
    inbox_filled_.store(true, std::memory_order_release);  // pairs with poll() and arm()
  }
  const std::uint64_t one = 1;
  CHECK(::write(wake_.get(), &one, sizeof one) == sizeof one);
}

void UcxQueue::take_inbox() {
  std::vector<Adoption> adoptions;
  {
    MutexLock lock(inbox_mutex_);
    adoptions.swap(inbox_);
    inbox_filled_.store(false, std::memory_order_relaxed);
  }
  for (Adoption& adoption : adoptions)
    if (Connection* connection = find(adoption.serial)) connection->adopt(std::move(adoption));
}

void UcxQueue::check_deadlines() {
  const TimeNs now_ns = clock_.now_ns();
  next_deadline_ns_ = kNever;
  for (Connection* connection : connections_) {
    if (connection == nullptr) continue;
    connection->check_deadline(now_ns);
    next_deadline_ns_ = std::min(next_deadline_ns_, connection->deadline_ns());
  }
}

void UcxQueue::take_back_lent() {
  for (const Lent& lent : lent_) api().ucp_am_data_release(lent.worker->handle(), lent.message);
  lent_.clear();
}

ucs_status_t UcxQueue::on_frame(const FrameHeader& header, void* data, std::size_t length,
                                std::uint64_t receive_attributes) {
  Connection* connection = find(header.to);
  if (connection == nullptr) return UCS_OK;  // of an endpoint that is gone
  return connection->on_frame(header, data, length, receive_attributes);
}

// A slot and 32 random bits: a frame for an endpoint that was there before names nobody.
std::uint64_t UcxQueue::attach(Connection& connection, TimeNs deadline_ns) {
  next_deadline_ns_ = std::min(next_deadline_ns_, deadline_ns);
  auto free = std::find(connections_.begin(), connections_.end(), nullptr);
  if (free == connections_.end()) free = connections_.insert(free, nullptr);
  *free = &connection;
  const auto slot = static_cast<std::uint32_t>(free - connections_.begin());
  return (random_u64() & ~std::uint64_t{UINT32_MAX}) | slot;
}

Connection* UcxQueue::find(std::uint64_t key) const {
  if (slot_of(key) >= connections_.size()) return nullptr;
  Connection* connection = connections_[slot_of(key)];
  return connection != nullptr && connection->key() == key ? connection : nullptr;
}

void UcxQueue::detach(Connection& connection) {
  connections_[slot_of(connection.key())] = nullptr;
  // Rare: turn the ready list once and leave the connection out.
  for (std::size_t turns = ready_count_; turns > 0; --turns) {
    Connection* other = pop_ready();
    if (other != &connection) mark_ready(*other);
  }
}

void UcxQueue::mark_ready(Connection& connection) {
  if (connection.in_ready_list_) return;
  connection.in_ready_list_ = true;
  connection.next_ready_ = nullptr;
  (ready_tail_ != nullptr ? ready_tail_->next_ready_ : ready_head_) = &connection;
  ready_tail_ = &connection;
  ++ready_count_;
}

Connection* UcxQueue::pop_ready() {
  Connection* connection = ready_head_;
  CHECK(connection != nullptr);
  ready_head_ = connection->next_ready_;
  if (ready_head_ == nullptr) ready_tail_ = nullptr;
  connection->in_ready_list_ = false;
  --ready_count_;
  return connection;
}

Status UcxQueue::watch(int fd, Connection& connection) {
  return add_to(sockets_.get(), fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &connection);
}

}  // namespace penstock::ucx

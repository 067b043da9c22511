// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/socket/socket.h"
#include "transport/ucx/queue.h"

namespace penstock::ucx {
namespace {

constexpr std::uint64_t kListening = 0, kTimer = 1;  // epoll tags; the rest are serials
constexpr int kMaxSocketEvents = 64;
// Tokens remembered so that their reuse is refused at once instead of at the hello's deadline.
constexpr std::size_t kMaxUsedTokens = 256;

Status watch(int epoll, int fd, std::uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Status::system("watch a connection", errno);
}

// Takes the same time wherever the tokens differ.
bool same(const Token& a, const Token& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

// Best effort: a stranger that does not take the answer does not get one.
void answer_refusal(int fd) {
  Greeting refusal;
  refusal.type = GreetingType::kError;
  refusal.code = static_cast<std::uint32_t>(Code::kUnauthenticated);
  if (::send(fd, &refusal, sizeof refusal, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
    ::shutdown(fd, SHUT_WR);
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::create(UniqueFd socket, TimeNs hello_timeout_ns,
                                                   const Clock& clock) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::system("create an epoll descriptor", errno);
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return Status::system("create a timer descriptor", errno);
  PENSTOCK_RETURN_IF_ERROR(watch(epoll.get(), socket.get(), kListening));
  PENSTOCK_RETURN_IF_ERROR(watch(epoll.get(), timer.get(), kTimer));
  return std::unique_ptr<Listener>(
      new Listener(std::move(socket), std::move(epoll), std::move(timer), hello_timeout_ns, clock));
}

Listener::Listener(UniqueFd socket, UniqueFd epoll, UniqueFd timer, TimeNs hello_timeout_ns,
                   const Clock& clock)
    : socket_(std::move(socket)),
      epoll_(std::move(epoll)),
      timer_(std::move(timer)),
      hello_timeout_ns_(hello_timeout_ns),
      clock_(clock) {
  pending_.reserve(kMaxPending);
  used_.reserve(kMaxUsedTokens);
}

Status Listener::await(const Token& token, UcxQueue& queue, std::uint64_t serial) {
  MutexLock lock(mutex_);
  for (const Waiting& waiting : waiting_)
    if (same(waiting.token, token))
      return Status(Code::kAlreadyExists, "accept: another endpoint waits for this token");
  waiting_.push_back({token, &queue, serial});
  std::erase_if(pending_, [this](Pending& early) REQUIRES(mutex_) {
    return early.complete() && match(early) == Fate::kHandedOver;
  });
  return {};
}

void Listener::forget(const UcxQueue& queue, std::uint64_t serial) {
  MutexLock lock(mutex_);
  std::erase_if(waiting_,
                [&](const Waiting& w) { return w.queue == &queue && w.serial == serial; });
}

std::size_t Listener::progress() {
  std::array<epoll_event, kMaxSocketEvents> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kMaxSocketEvents, 0);
  MutexLock lock(mutex_);
  std::size_t done = expire();
  for (int i = 0; i < count; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    if (tag == kListening)
      done += accept_all();
    else if (tag != kTimer)
      done += read_pending(tag);
  }
  set_timer();
  return done;
}

std::size_t Listener::accept_all() {
  // Not for ever, even if strangers come faster than we take them.
  for (std::size_t taken = 0; taken < kMaxPending; ++taken) {
    UniqueFd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.valid()) return taken;  // none left, or none that lived; out of descriptors: later
    if (socket::set_connection_options(fd.get(), {}).ok()) admit(std::move(fd));
  }
  return kMaxPending;
}

void Listener::admit(UniqueFd fd) {
  if (pending_.size() == kMaxPending) {
    // The oldest of those that never finished their hello makes room, else the oldest.
    auto oldest = std::find_if(pending_.begin(), pending_.end(),
                               [](const Pending& p) { return !p.complete(); });
    pending_.erase(oldest == pending_.end() ? pending_.begin() : oldest);
  }
  Pending pending;
  pending.serial = next_serial_++;
  pending.deadline_ns = clock_.now_ns() + hello_timeout_ns_;
  pending.fd = std::move(fd);
  if (watch(epoll_.get(), pending.fd.get(), pending.serial).ok())
    pending_.push_back(std::move(pending));
}

std::size_t Listener::read_pending(std::uint64_t serial) {
  const auto found = std::find_if(pending_.begin(), pending_.end(),
                                  [serial](const Pending& p) { return p.serial == serial; });
  if (found == pending_.end()) return 0;
  const Fate fate = read_hello(*found);
  if (fate == Fate::kRefuse) answer_refusal(found->fd.get());
  if (fate != Fate::kKeep) pending_.erase(found);
  return 1;
}

Listener::Fate Listener::read_hello(Pending& pending) {
  // Not one byte more: what follows belongs to the endpoint.
  auto* bytes = reinterpret_cast<std::byte*>(&pending.hello);
  const ssize_t got = ::recv(pending.fd.get(), bytes + pending.received,
                             sizeof pending.hello - pending.received, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Fate::kKeep;
  if (got <= 0) return Fate::kDrop;
  pending.received += static_cast<std::size_t>(got);
  // Nonsense is told by its first bytes.
  if (pending.received >= sizeof pending.hello.magic && pending.hello.magic != kMagic)
    return Fate::kDrop;
  if (!pending.complete()) return Fate::kKeep;
  if (pending.hello.version != kVersion) return Fate::kRefuse;  // the answer carries ours
  if (pending.hello.type != GreetingType::kHello) return Fate::kDrop;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pending.fd.get(), nullptr);
  return match(pending);
}

Listener::Fate Listener::match(Pending& pending) {
  const Token token = pending.hello.token;
  std::size_t found = waiting_.size();
  for (std::size_t i = 0; i < waiting_.size(); ++i)  // all of them, whichever matches
    if (same(waiting_[i].token, token)) found = i;
  if (found < waiting_.size()) {
    hand_over(pending, found);
    return Fate::kHandedOver;
  }
  const bool used = std::any_of(used_.begin(), used_.end(),
                                [&](const Token& other) { return same(other, token); });
  return used ? Fate::kRefuse : Fate::kKeep;
}

void Listener::hand_over(Pending& pending, std::size_t waiting) {
  const Waiting entry = waiting_[waiting];
  waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(waiting));
  if (used_.size() < kMaxUsedTokens)
    used_.push_back(entry.token);
  else
    used_[used_at_++ % kMaxUsedTokens] = entry.token;
  entry.queue->hand_over({entry.serial, std::move(pending.fd), pending.hello});
}

std::size_t Listener::expire() {
  const TimeNs now_ns = clock_.now_ns();
  return std::erase_if(pending_, [now_ns](const Pending& pending) {
    if (now_ns < pending.deadline_ns) return false;
    if (pending.complete()) answer_refusal(pending.fd.get());
    return true;
  });
}

void Listener::set_timer() {
  if (pending_.empty() && !timer_set_) return;
  timer_set_ = !pending_.empty();
  itimerspec when{};
  if (!pending_.empty()) {
    const TimeNs wait_ns =
        std::max<TimeNs>(pending_.front().deadline_ns - clock_.now_ns(), kMillisecond);
    when.it_value = {.tv_sec = wait_ns / kSecond, .tv_nsec = wait_ns % kSecond};
  }
  ::timerfd_settime(timer_.get(), 0, &when, nullptr);  // also clears an expiry
}

}  // namespace penstock::ucx

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "transport/tcp/queue.h"

namespace penstock::tcp {
namespace {

constexpr std::uint64_t kListening = 0, kTimer = 1;  // epoll tags; the rest are serials
constexpr int kMaxSocketEvents = 64;

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
void answer_refusal(int fd, TlsLink* tls) {
  FrameHeader header{.type = FrameType::kError,
                     .immediate = static_cast<std::uint32_t>(Code::kUnauthenticated)};
  seal(header);
  const iovec part{&header, sizeof header};
  const ssize_t sent = tls != nullptr && !tls->offloaded()
                           ? tls->send({&part, 1})
                           : ::send(fd, &header, sizeof header, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) ::shutdown(fd, SHUT_WR);
}

}  // namespace

Token Listener::Pending::token() const {
  Token token;
  std::memcpy(token.data(), bytes.data() + kHeaderBytes, sizeof token);
  return token;
}

Result<std::unique_ptr<Listener>> Listener::create(UniqueFd socket, const Options& options,
                                                   TcpCounters& counters, const Clock& clock) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::system("create an epoll descriptor", errno);
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return Status::system("create a timer descriptor", errno);
  PENSTOCK_RETURN_IF_ERROR(watch(epoll.get(), socket.get(), kListening));
  PENSTOCK_RETURN_IF_ERROR(watch(epoll.get(), timer.get(), kTimer));
  return std::unique_ptr<Listener>(new Listener(std::move(socket), std::move(epoll),
                                                std::move(timer), options, counters, clock));
}

Listener::Listener(UniqueFd socket, UniqueFd epoll, UniqueFd timer, const Options& options,
                   TcpCounters& counters, const Clock& clock)
    : socket_(std::move(socket)),
      epoll_(std::move(epoll)),
      timer_(std::move(timer)),
      options_(options),
      clock_(clock),
      counters_(counters) {
  pending_.reserve(kMaxPending);
}

Status Listener::await(const Token& token, TcpQueue& queue, std::uint64_t serial) {
  MutexLock lock(mutex_);
  for (const Waiting& waiting : waiting_)
    if (same(waiting.token, token))
      return Status(Code::kAlreadyExists, "accept: another endpoint waits for this token");
  waiting_.push_back({token, &queue, serial});
  return {};
}

void Listener::forget(const TcpQueue& queue, std::uint64_t serial) {
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
    if (socket::set_connection_options(fd.get(), options_.sockets).ok()) admit(std::move(fd));
  }
  return kMaxPending;
}

void Listener::admit(UniqueFd fd) {
  if (pending_.size() == kMaxPending) {  // the oldest makes room
    counters_.connections_refused.add(1);
    pending_.erase(pending_.begin());
  }
  Pending pending;
  pending.serial = next_serial_++;
  pending.deadline_ns = clock_.now_ns() + options_.hello_timeout_ns;
  pending.fd = std::move(fd);
  if (options_.tls != nullptr)
    pending.tls =
        std::make_unique<TlsLink>(*options_.tls, pending.fd.get(), TlsLink::Side::kAccepting);
  if (watch(epoll_.get(), pending.fd.get(), pending.serial).ok())
    pending_.push_back(std::move(pending));
}

std::size_t Listener::read_pending(std::uint64_t serial) {
  const auto found = std::find_if(pending_.begin(), pending_.end(),
                                  [serial](const Pending& p) { return p.serial == serial; });
  if (found == pending_.end()) return 0;
  const Fate fate = read_hello(*found);
  if (fate == Fate::kRefuse)
    answer_refusal(found->fd.get(), found->secured ? found->tls.get() : nullptr);
  if (fate == Fate::kRefuse || fate == Fate::kDrop) counters_.connections_refused.add(1);
  if (fate != Fate::kKeep) pending_.erase(found);
  return 1;
}

Listener::Fate Listener::secure(Pending& pending) {
  switch (pending.tls->handshake()) {
    case TlsLink::Progress::kDone:
      pending.secured = true;
      return Fate::kKeep;
    case TlsLink::Progress::kAgain:
      return Fate::kKeep;
    case TlsLink::Progress::kStranger:
      return Fate::kRefuse;
    case TlsLink::Progress::kFailed:
      return Fate::kDrop;  // TLS told the peer
  }
  return Fate::kDrop;
}

Listener::Fate Listener::read_hello(Pending& pending) {
  if (pending.tls != nullptr && !pending.secured) {
    const Fate fate = secure(pending);
    if (!pending.secured) return fate;
  }
  // Not one byte more than the hello: what follows belongs to the endpoint.
  const iovec space{pending.bytes.data() + pending.received, kHelloBytes - pending.received};
  const ssize_t got = pending.tls != nullptr ? pending.tls->receive({&space, 1})
                                             : ::readv(pending.fd.get(), &space, 1);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Fate::kKeep;
  if (got <= 0) return Fate::kDrop;
  const bool had_header = pending.received >= kHeaderBytes;
  pending.received += static_cast<std::size_t>(got);
  if (!had_header && pending.received >= kHeaderBytes) {
    const std::span<const std::byte> header = std::span(pending.bytes).first(kHeaderBytes);
    if (parse_header(header, pending.hello) != nullptr || pending.hello.type != FrameType::kHello)
      return Fate::kDrop;
  }
  if (pending.received < kHelloBytes) return Fate::kKeep;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pending.fd.get(), nullptr);
  return match(pending);
}

Listener::Fate Listener::match(Pending& pending) {
  const Token token = pending.token();
  std::size_t found = waiting_.size();
  for (std::size_t i = 0; i < waiting_.size(); ++i)  // all of them, whichever matches
    if (same(waiting_[i].token, token)) found = i;
  if (found == waiting_.size()) return Fate::kRefuse;
  hand_over(pending, found);
  return Fate::kHandedOver;
}

void Listener::hand_over(Pending& pending, std::size_t waiting) {
  const Waiting entry = waiting_[waiting];
  waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(waiting));
  entry.queue->hand_over(
      {entry.serial, std::move(pending.fd), std::move(pending.tls), pending.hello.immediate});
}

std::size_t Listener::expire() {
  const TimeNs now_ns = clock_.now_ns();
  const std::size_t overdue = std::erase_if(
      pending_, [now_ns](const Pending& pending) { return now_ns >= pending.deadline_ns; });
  counters_.connections_refused.add(overdue);
  return overdue;
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

}  // namespace penstock::tcp

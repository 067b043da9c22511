// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/listener.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/shm/queue.h"
#include "transport/shm/socket.h"

namespace penstock::shm {
namespace {

constexpr int kMaxEvents = 64;

// Takes the same time wherever they differ.
bool same(const Token& a, const Token& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

Status watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.fd = fd;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Status::system("watch a connection", errno);
}

}  // namespace

Status refusal(Code code) {
  switch (code) {
    case Code::kUnauthenticated:
      return {code, "connect: no endpoint of the peer waits for this token"};
    case Code::kUnsupported:
      return {code, "connect: the peer speaks another version of shm"};
    case Code::kAccess:
      return {code, "connect: the peer's process runs as another user"};
    default:
      return {Code::kProtocol, "connect: the peer refused our hello"};
  }
}

Result<std::unique_ptr<Listener>> Listener::create(UniqueFd socket) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::system("create an epoll descriptor", errno);
  PENSTOCK_RETURN_IF_ERROR(watch(epoll.get(), socket.get()));
  return std::unique_ptr<Listener>(new Listener(std::move(socket), std::move(epoll)));
}

Listener::Listener(UniqueFd socket, UniqueFd epoll)
    : socket_(std::move(socket)), epoll_(std::move(epoll)) {}

Status Listener::await(const Token& token, ShmQueue& queue, std::uint64_t serial) {
  MutexLock lock(mutex_);
  for (const Waiting& other : waiting_)
    if (same(other.token, token))
      return {Code::kAlreadyExists, "accept: another endpoint waits for this token"};
  waiting_.push_back({token, &queue, serial});
  return {};
}

void Listener::forget(const ShmQueue& queue, std::uint64_t serial) {
  MutexLock lock(mutex_);
  std::erase_if(waiting_,
                [&](const Waiting& w) { return w.queue == &queue && w.serial == serial; });
}

std::size_t Listener::progress() {
  std::array<epoll_event, kMaxEvents> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kMaxEvents, 0);
  if (count <= 0) return 0;
  MutexLock lock(mutex_);
  std::size_t done = 0;
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    if (fd == socket_.get()) {
      done += accept_all();
      continue;
    }
    const auto found = std::find_if(pending_.begin(), pending_.end(),
                                    [fd](const UniqueFd& pending) { return pending.get() == fd; });
    if (found == pending_.end() || !greet(*found)) continue;
    pending_.erase(found);
    ++done;
  }
  return done;
}

std::size_t Listener::accept_all() {
  // Not for ever, even if strangers come faster than we take them.
  for (std::size_t taken = 0; taken < kMaxPending; ++taken) {
    UniqueFd connection = accept_one(socket_.get());
    if (!connection.valid()) return taken;
    if (greet(connection)) continue;  // nearly always: the hello is sent right away
    if (pending_.size() == kMaxPending) pending_.erase(pending_.begin());
    if (watch(epoll_.get(), connection.get()).ok()) pending_.push_back(std::move(connection));
  }
  return kMaxPending;
}

// Reads the hello. False: it has not come yet.
bool Listener::greet(UniqueFd& connection) {
  Parcel parcel;
  const Heard heard = receive(connection.get(), parcel);
  if (heard == Heard::kNothing) return false;
  if (heard == Heard::kHangUp) return true;
  const Code code =
      heard == Heard::kGarbage ? Code::kProtocol : admit(connection, std::move(parcel));
  if (code == Code::kOk) return true;
  Message message;
  message.kind = MessageKind::kRefusal;
  message.code = code;
  (void)send_message(connection.get(), message);  // who does not read it has no interest in it
  return true;
}

Code Listener::admit(UniqueFd& connection, Parcel parcel) {
  const Message hello = parcel.message;
  if (hello.version != kVersion) return Code::kUnsupported;
  if (hello.kind != MessageKind::kHello) return Code::kProtocol;
  if (!same_user(connection.get())) return Code::kAccess;
  std::size_t found = waiting_.size();
  for (std::size_t i = 0; i < waiting_.size(); ++i)  // all of them, whichever matches
    if (same(waiting_[i].token, hello.token)) found = i;
  if (found == waiting_.size()) return Code::kUnauthenticated;
  // Only now is anything of it mapped.
  const int fd = connection.get();
  Result<std::unique_ptr<Peer>> peer = Peer::create(connection, std::move(parcel));
  if (!peer.ok()) return peer.status().code();
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);  // if it was pending
  const Waiting waiting = waiting_[found];
  waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(found));
  waiting.queue->hand_over({waiting.serial, std::move(*peer)});
  return Code::kOk;
}

}  // namespace penstock::shm

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/sockets.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

namespace penstock::control {
namespace {

constexpr int kBacklog = 1024;  // a whole job connects at once; the kernel caps it at somaxconn

template <class T>
void set_option(int fd, int level, int option, T value) {
  // Best effort: a kernel that lacks the option is slower to answer or to notice, not wrong.
  (void)::setsockopt(fd, level, option, &value, sizeof value);
}

void set_options(int fd, TimeNs user_timeout_ns) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  const TimeNs milliseconds =
      std::clamp<TimeNs>(user_timeout_ns / kMillisecond, 1, TimeNs{INT_MAX});
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<unsigned>(milliseconds));
}

UniqueFd make_socket(const SocketAddress& address) {
  return UniqueFd(
      ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Status listen_error(const std::string& address, int error) {
  const std::string what = fmt::format("listen on {}", address);
  if (error == EADDRINUSE)
    return Status(Code::kAlreadyExists, what)
        .with_system(error)
        .with_hint("another process has this port; choose another, or 0 for any");
  if (error == EADDRNOTAVAIL)
    return Status::system(what, error).with_hint("give an address of this host, or 0.0.0.0");
  return Status::system(what, error);
}

}  // namespace

Result<UniqueFd> open_listener(const std::string& address) {
  PENSTOCK_ASSIGN_OR_RETURN(const auto candidates, resolve(address));
  int error = 0;
  for (const SocketAddress& candidate : candidates) {
    UniqueFd fd = make_socket(candidate);
    if (fd.valid()) {
      set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
      if (::bind(fd.get(), candidate.get(), candidate.length) == 0 &&
          ::listen(fd.get(), kBacklog) == 0)
        return fd;
    }
    error = errno;
  }
  return listen_error(address, error);
}

UniqueFd accept_connection(int listener, TimeNs user_timeout_ns) {
  UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (fd.valid()) set_options(fd.get(), user_timeout_ns);
  return fd;
}

UniqueFd start_connect(const SocketAddress& to, TimeNs user_timeout_ns) {
  UniqueFd fd = make_socket(to);
  if (!fd.valid()) return fd;
  set_options(fd.get(), user_timeout_ns);
  if (::connect(fd.get(), to.get(), to.length) == 0 || errno == EINPROGRESS) return fd;
  const int error = errno;
  fd.reset();
  errno = error;
  return fd;
}

int connect_result(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  if (error != 0) return error;
  // A connect to a free port of the ephemeral range can meet itself.
  return same_address(local_address(fd), remote_address(fd)) ? ECONNREFUSED : 0;
}

Status watch(int epoll, int operation, int fd, std::uint32_t events, std::uint64_t serial) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = serial;
  if (::epoll_ctl(epoll, operation, fd, &event) == 0) return {};
  return Status::system("watch a control socket", errno);
}

bool discard_input(int fd) {
  std::array<char, 4096> scratch{};
  for (int reads = 0; reads < 16; ++reads) {
    const ssize_t got = ::recv(fd, scratch.data(), scratch.size(), 0);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (got == 0) return false;
  }
  return true;
}

}  // namespace penstock::control

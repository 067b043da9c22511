// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/tcp_streams.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace penstock::psbench {
namespace {

// Bytes per call: large enough that the call itself costs nothing, small enough that sending and
// receiving alternate while the data is still in the second-level cache.
constexpr std::size_t kChunkBytes = 256 << 10;

sockaddr* as_sockaddr(sockaddr_in& address) { return reinterpret_cast<sockaddr*>(&address); }

Status set_no_delay(int fd) {
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
    return Status::system("cannot set TCP_NODELAY", errno);
  return {};
}

Result<UniqueFd> listen_on_loopback(sockaddr_in& address, int backlog) {
  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (!listener.valid() || bind(listener.get(), as_sockaddr(address), length) != 0 ||
      listen(listener.get(), backlog) != 0 ||
      getsockname(listener.get(), as_sockaddr(address), &length) != 0)
    return Status::system("cannot listen on 127.0.0.1", errno);
  return listener;
}

// Connecting over loopback ends at once: the listener's backlog holds the connection.
Result<TcpPair> connect_one(int listener, sockaddr_in address) {
  UniqueFd near(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!near.valid() || connect(near.get(), as_sockaddr(address), sizeof address) != 0)
    return Status::system("cannot connect over 127.0.0.1", errno);
  UniqueFd far(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!far.valid()) return Status::system("cannot accept over 127.0.0.1", errno);
  PENSTOCK_RETURN_IF_ERROR(set_no_delay(near.get()));
  PENSTOCK_RETURN_IF_ERROR(set_no_delay(far.get()));
  return TcpPair(std::move(near), std::move(far));
}

// What one call moved: 0 when it would block.
Result<std::size_t> moved(ssize_t bytes, bool receiving) {
  if (bytes > 0) return static_cast<std::size_t>(bytes);
  if (bytes == 0 && receiving) return Status(Code::kConnectionLost, "the peer closed the stream");
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return std::size_t{0};
  return Status::system(receiving ? "cannot receive" : "cannot send", errno);
}

Status wait_until_ready(int fd, bool to_send, bool to_receive, TimeNs deadline_ns) {
  const TimeNs left_ns = deadline_ns - SystemClock().now_ns();
  if (left_ns <= 0) return Status(Code::kTimeout, "a raw TCP stream made no progress in time");
  const auto events = static_cast<short>((to_send ? POLLOUT : 0) | (to_receive ? POLLIN : 0));
  pollfd socket{fd, events, 0};
  const TimeNs left_ms = std::min<TimeNs>(left_ns / kMillisecond + 1, INT_MAX);
  if (poll(&socket, 1, static_cast<int>(left_ms)) < 0 && errno != EINTR)
    return Status::system("cannot poll a stream", errno);
  return {};
}

}  // namespace

Result<std::vector<TcpPair>> connect_streams(std::size_t streams) {
  sockaddr_in address{};
  PENSTOCK_ASSIGN_OR_RETURN(const UniqueFd listener, listen_on_loopback(address, SOMAXCONN));
  std::vector<TcpPair> pairs;
  for (std::size_t i = 0; i < streams; ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(TcpPair pair, connect_one(listener.get(), address));
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

Status exchange_bytes(int fd, std::span<const std::byte> out, std::span<std::byte> in,
                      TimeNs deadline_ns) {
  while (!out.empty() || !in.empty()) {
    std::size_t received = 0, sent = 0;
    if (!in.empty()) {
      const std::size_t length = std::min(in.size(), kChunkBytes);
      PENSTOCK_ASSIGN_OR_RETURN(received, moved(recv(fd, in.data(), length, MSG_DONTWAIT), true));
      in = in.subspan(received);
    }
    if (!out.empty()) {
      const std::size_t length = std::min(out.size(), kChunkBytes);
      const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
      PENSTOCK_ASSIGN_OR_RETURN(sent, moved(send(fd, out.data(), length, flags), false));
      out = out.subspan(sent);
    }
    if (received == 0 && sent == 0)
      PENSTOCK_RETURN_IF_ERROR(wait_until_ready(fd, !out.empty(), !in.empty(), deadline_ns));
  }
  return {};
}

}  // namespace penstock::psbench

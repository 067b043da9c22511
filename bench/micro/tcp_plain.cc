// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/tcp_plain.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "transport/base/check.h"

namespace penstock::bench {
namespace {

std::byte* slot(std::span<std::byte> buffer, std::size_t bytes, std::size_t index) {
  return buffer.data() + index % (buffer.size() / bytes) * bytes;
}

void set_no_delay(int fd) {
  const int on = 1;
  CHECK(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
}

// Moves one direction of an exchange on by one call. False when the socket would block.
struct Stream {
  std::span<std::byte> buffer;
  std::size_t bytes, count;
  std::size_t message = 0, offset = 0;
  bool done() const { return message == count; }
  std::byte* at() const { return slot(buffer, bytes, message) + offset; }
  bool moved(ssize_t got) {
    if (got < 0 && errno == EAGAIN) return false;
    CHECK(got > 0, "a yardstick's socket broke");
    offset += static_cast<std::size_t>(got);
    if (offset == bytes) offset = 0, ++message;
    return true;
  }
};

void receive_one(int fd, std::byte* at, std::size_t bytes, bool spin) {
  for (std::size_t got = 0; got < bytes;) {
    const ssize_t now = ::recv(fd, at + got, bytes - got, spin ? MSG_DONTWAIT : 0);
    if (now < 0 && errno == EAGAIN) continue;
    CHECK(now > 0);
    got += static_cast<std::size_t>(now);
  }
}

}  // namespace

SocketPair make_socket_pair() {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  CHECK(::bind(listener.get(), any, length) == 0 && ::listen(listener.get(), 1) == 0);
  CHECK(::getsockname(listener.get(), any, &length) == 0);
  SocketPair pair;
  pair.a.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::connect(pair.a.get(), any, length) == 0);
  pair.b.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  CHECK(pair.b.valid());
  set_no_delay(pair.a.get());
  set_no_delay(pair.b.get());
  return pair;
}

void send_all(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    CHECK(::send(fd, slot(buffer, bytes, i), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes));
}

void receive_all(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) receive_one(fd, slot(buffer, bytes, i), bytes, false);
}

void exchange_all(int fd, std::span<std::byte> out, std::span<std::byte> in, std::size_t bytes,
                  std::size_t count) {
  Stream sending{out, bytes, count}, receiving{in, bytes, count};
  while (!sending.done() || !receiving.done()) {
    const bool sent =
        !sending.done() && sending.moved(::send(fd, sending.at(), bytes - sending.offset,
                                                MSG_DONTWAIT | MSG_NOSIGNAL));
    const bool received =
        !receiving.done() &&
        receiving.moved(::recv(fd, receiving.at(), bytes - receiving.offset, MSG_DONTWAIT));
    if (sent || received) continue;
    pollfd wait{fd, static_cast<short>((sending.done() ? 0 : POLLOUT) | POLLIN), 0};
    CHECK(::poll(&wait, 1, 10'000) == 1, "a yardstick's peer went silent");
  }
}

void ping(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count, bool spin) {
  for (std::size_t i = 0; i < count; ++i) {
    CHECK(::send(fd, buffer.data(), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes));
    receive_one(fd, buffer.data(), bytes, spin);
  }
}

void pong(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count, bool spin) {
  for (std::size_t i = 0; i < count; ++i) {
    receive_one(fd, buffer.data(), bytes, spin);
    CHECK(::send(fd, buffer.data(), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes));
  }
}

}  // namespace penstock::bench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/socket/socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

namespace penstock::socket {
namespace {

// Unacknowledged bytes or a silent peer end a connection after about this long. Longer than the
// control connection's detection time, which normally decides first.
constexpr int kUserTimeoutMs = 10'000;
constexpr int kKeepIdleS = 5, kKeepIntervalS = 2, kKeepProbes = 3;
// Pending connections the kernel holds while we are busy.
constexpr int kBacklog = 512;

Status set_option(int fd, int level, int name, int value, const char* what) {
  if (::setsockopt(fd, level, name, &value, sizeof value) == 0) return {};
  return Status::system(fmt::format("set socket option {}", what), errno);
}

Status set_buffers(int fd, const Options& o) {
  if (o.send_buffer > 0)
    PENSTOCK_RETURN_IF_ERROR(set_option(fd, SOL_SOCKET, SO_SNDBUF, o.send_buffer, "SO_SNDBUF"));
  if (o.receive_buffer > 0)
    PENSTOCK_RETURN_IF_ERROR(set_option(fd, SOL_SOCKET, SO_RCVBUF, o.receive_buffer, "SO_RCVBUF"));
  return {};
}

Result<UniqueFd> open_socket(int family) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Status::system("open a socket", errno);
  return fd;
}

}  // namespace

Result<Address> make_address(const std::string& host, std::uint16_t port) {
  Address address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length = sizeof *v4;
    return address;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length = sizeof *v6;
    return address;
  }
  return Status(Code::kInvalidArgument, fmt::format("'{}' is not a numeric address", host));
}

Result<Address> parse_device_address(std::string_view prefix, const std::string& text) {
  const auto bad = [&] {
    return Status(Code::kInvalidArgument,
                  fmt::format("'{}' is not an address of this transport", text))
        .with_hint(fmt::format("expected {}host:port", prefix));
  };
  std::string_view rest = text;
  if (!rest.starts_with(prefix)) return bad();
  rest.remove_prefix(prefix.size());
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return bad();
  std::string_view host = rest.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  const std::string_view digits = rest.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0) return bad();
  return make_address(std::string(host), port);
}

std::string device_address(std::string_view prefix, const std::string& numeric_host,
                           std::uint16_t port) {
  const bool v6 = numeric_host.find(':') != std::string::npos;
  return fmt::format(fmt::runtime(v6 ? "{}[{}]:{}" : "{}{}:{}"), prefix, numeric_host, port);
}

std::string peer_name(int fd) {
  Address address;
  address.length = sizeof address.storage;
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0 ||
      ::getnameinfo(address.get(), address.length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "?";
  return fmt::format("{}:{}", host, port);
}

Result<std::string> resolve_host(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0)
    return Status(Code::kNotFound,
                  fmt::format("resolve host '{}': {}", host, ::gai_strerror(error)));
  char text[NI_MAXHOST];
  const int error = ::getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, nullptr, 0,
                                  NI_NUMERICHOST);
  ::freeaddrinfo(found);
  if (error != 0)
    return Status(Code::kNotFound,
                  fmt::format("resolve host '{}': {}", host, ::gai_strerror(error)));
  return std::string(text);
}

Result<std::string> advertised_host(const std::string& bind_address, const std::string& advertise) {
  if (!advertise.empty()) return resolve_host(advertise);
  if (bind_address == "0.0.0.0" || bind_address == "::")
    return Status(Code::kInvalidArgument,
                  fmt::format("a device bound to {} needs a host to advertise", bind_address))
        .with_hint("set advertise_host to the address peers reach this machine at");
  return bind_address;
}

Result<UniqueFd> listen_on(const std::string& host, std::uint16_t port, const Options& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const Address address, make_address(host, port));
  PENSTOCK_ASSIGN_OR_RETURN(UniqueFd fd, open_socket(address.storage.ss_family));
  PENSTOCK_RETURN_IF_ERROR(set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
  PENSTOCK_RETURN_IF_ERROR(set_buffers(fd.get(), options));  // accepted sockets inherit them
  if (::bind(fd.get(), address.get(), address.length) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    const int error = errno;
    if (error == EADDRINUSE)
      return Status(Code::kAlreadyExists,
                    fmt::format("listen on {} port {}: the port is taken", host, port))
          .with_hint("choose another port, or 0 for any free one");
    return Status::system(fmt::format("listen on {} port {}", host, port), error);
  }
  return fd;
}

Result<std::uint16_t> bound_port(int fd) {
  Address address;
  address.length = sizeof address.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0)
    return Status::system("ask for the listening port", errno);
  const bool v4 = address.storage.ss_family == AF_INET;
  return ntohs(v4 ? reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port
                  : reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
}

Result<Connecting> start_connect(const Address& address, const Options& options) {
  PENSTOCK_ASSIGN_OR_RETURN(UniqueFd fd, open_socket(address.storage.ss_family));
  PENSTOCK_RETURN_IF_ERROR(set_buffers(fd.get(), options));
  PENSTOCK_RETURN_IF_ERROR(set_connection_options(fd.get(), options));
  const bool refused = ::connect(fd.get(), address.get(), address.length) != 0;
  const int error = refused && errno != EINPROGRESS ? errno : 0;
  return Connecting{std::move(fd), error};
}

bool knows_zerocopy() {
  const Result<UniqueFd> fd = open_socket(AF_INET);
  return fd.ok() && set_option(fd->get(), SOL_SOCKET, SO_ZEROCOPY, 1, "SO_ZEROCOPY").ok();
}

Status set_connection_options(int fd, const Options& options) {
  if (options.zerocopy)
    PENSTOCK_RETURN_IF_ERROR(set_option(fd, SOL_SOCKET, SO_ZEROCOPY, 1, "SO_ZEROCOPY"));
  if (options.most_unsent > 0)
    PENSTOCK_RETURN_IF_ERROR(
        set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options.most_unsent, "TCP_NOTSENT_LOWAT"));
  PENSTOCK_RETURN_IF_ERROR(set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  PENSTOCK_RETURN_IF_ERROR(
      set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs, "TCP_USER_TIMEOUT"));
  PENSTOCK_RETURN_IF_ERROR(set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
  PENSTOCK_RETURN_IF_ERROR(set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleS, "TCP_KEEPIDLE"));
  PENSTOCK_RETURN_IF_ERROR(
      set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalS, "TCP_KEEPINTVL"));
  return set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes, "TCP_KEEPCNT");
}

}  // namespace penstock::socket

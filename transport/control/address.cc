// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace penstock::control {
namespace {

struct HostPort {
  std::string host, port;
};

Result<HostPort> split(const std::string& address) {
  const auto malformed = [&] {
    return Status(Code::kInvalidArgument, fmt::format("\"{}\" is not host:port", address))
        .with_hint("for example 10.0.0.1:7000, node1:7000 or [::1]:7000");
  };
  HostPort parts;
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return malformed();
  parts.host = address.substr(0, colon);
  parts.port = address.substr(colon + 1);
  const bool bracketed =
      parts.host.size() > 2 && parts.host.front() == '[' && parts.host.back() == ']';
  if (bracketed) parts.host = parts.host.substr(1, parts.host.size() - 2);
  if (parts.host.empty() || (!bracketed && parts.host.find_first_of("[]:") != std::string::npos))
    return malformed();
  const bool digits = std::all_of(parts.port.begin(), parts.port.end(),
                                  [](char c) { return c >= '0' && c <= '9'; });
  if (parts.port.empty() || parts.port.size() > 5 || !digits || std::stoul(parts.port) > 65535)
    return malformed();
  return parts;
}

template <class Socket>
Socket& as(SocketAddress& address) {
  return reinterpret_cast<Socket&>(address.storage);
}
template <class Socket>
const Socket& as(const SocketAddress& address) {
  return reinterpret_cast<const Socket&>(address.storage);
}

bool is_wildcard(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET)
    return as<sockaddr_in>(address).sin_addr.s_addr == htonl(INADDR_ANY);
  return IN6_IS_ADDR_UNSPECIFIED(&as<sockaddr_in6>(address).sin6_addr);
}

in_port_t port_of(const SocketAddress& address) {
  return address.storage.ss_family == AF_INET ? as<sockaddr_in>(address).sin_port
                                              : as<sockaddr_in6>(address).sin6_port;
}

// The first IPv4 address of an interface that is up and not loopback.
in_addr first_interface() {
  in_addr found{htonl(INADDR_LOOPBACK)};
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return found;
  for (const ifaddrs* i = all; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    if ((i->ifa_flags & IFF_UP) == 0 || (i->ifa_flags & IFF_LOOPBACK) != 0) continue;
    found = reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr;
    break;
  }
  ::freeifaddrs(all);
  return found;
}

}  // namespace

Result<std::vector<SocketAddress>> resolve(const std::string& address) {
  PENSTOCK_ASSIGN_OR_RETURN(const HostPort parts, split(address));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* all = nullptr;
  const int error = ::getaddrinfo(parts.host.c_str(), parts.port.c_str(), &hints, &all);
  if (error != 0)
    return Status(Code::kNotFound, fmt::format("resolve {}: {}", parts.host, ::gai_strerror(error)))
        .with_hint("check the name, or give a numeric address");
  std::vector<SocketAddress> found;
  for (const addrinfo* i = all; i != nullptr; i = i->ai_next) {
    if (i->ai_family != AF_INET && i->ai_family != AF_INET6) continue;
    SocketAddress& one = found.emplace_back();
    std::memcpy(&one.storage, i->ai_addr, i->ai_addrlen);
    one.length = i->ai_addrlen;
  }
  ::freeaddrinfo(all);
  if (found.empty())
    return Status(Code::kNotFound, fmt::format("{} has no IP address", parts.host));
  return found;
}

std::string to_text(const SocketAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool v4 = address.storage.ss_family == AF_INET;
  const void* bytes = v4 ? static_cast<const void*>(&as<sockaddr_in>(address).sin_addr)
                         : static_cast<const void*>(&as<sockaddr_in6>(address).sin6_addr);
  if (::inet_ntop(address.storage.ss_family, bytes, text.data(), text.size()) == nullptr)
    return "unknown address";
  const unsigned port = ntohs(port_of(address));
  return v4 ? fmt::format("{}:{}", text.data(), port) : fmt::format("[{}]:{}", text.data(), port);
}

SocketAddress local_address(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getsockname(fd, address.get(), &address.length) != 0) address = {};
  return address;
}

SocketAddress remote_address(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getpeername(fd, address.get(), &address.length) != 0) address = {};
  return address;
}

bool same_address(const SocketAddress& a, const SocketAddress& b) {
  return a.length == b.length && std::memcmp(&a.storage, &b.storage, a.length) == 0;
}

std::string reachable_text(const SocketAddress& bound) {
  if (!is_wildcard(bound)) return to_text(bound);
  SocketAddress reachable;
  reachable.length = sizeof(sockaddr_in);
  auto& v4 = as<sockaddr_in>(reachable);
  v4.sin_family = AF_INET;
  v4.sin_port = port_of(bound);
  v4.sin_addr = first_interface();
  return to_text(reachable);
}

}  // namespace penstock::control

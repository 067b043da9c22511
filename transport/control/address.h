// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// "host:port" as text, and what the sockets make of it.

#include <sys/socket.h>

#include <string>
#include <vector>

#include "transport/base/status.h"

namespace penstock::control {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// All addresses of "host:port" or "[v6]:port", best first. Numeric ones are answered at once; a
// name goes through getaddrinfo (/etc/hosts, then DNS), which may block. kInvalidArgument when the
// text is malformed, kNotFound when the name is unknown.
Result<std::vector<SocketAddress>> resolve(const std::string& address);

// "127.0.0.1:80", "[::1]:80".
std::string to_text(const SocketAddress& address);

SocketAddress local_address(int fd);
SocketAddress remote_address(int fd);
bool same_address(const SocketAddress& a, const SocketAddress& b);

// What peers can use to reach a socket bound to `bound`: itself, or for a wildcard address the
// first interface of this host that is not loopback (loopback when there is no other).
std::string reachable_text(const SocketAddress& bound);

}  // namespace penstock::control

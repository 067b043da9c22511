// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Socket set-up: addresses as text, options, listening and connecting. None of it blocks but
// resolve_host(). Any thread.

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace penstock::socket {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// A numeric IPv4 or IPv6 host and a port.
Result<Address> make_address(const std::string& host, std::uint16_t port);
// What Device::address() gives: "tcp:host:port" or "tcp:[host]:port" with a numeric host, where
// "tcp:" is the prefix.
Result<Address> parse_device_address(std::string_view prefix, const std::string& text);
std::string device_address(std::string_view prefix, const std::string& numeric_host,
                           std::uint16_t port);
// "host:port" of the other end; "?" when the socket has none any more.
std::string peer_name(int fd);
// A name or number as a number. Asks the resolver: may take seconds.
Result<std::string> resolve_host(const std::string& host);
// What peers connect to: `advertise` resolved, or else the bind address, which must then be one
// that can be reached (kInvalidArgument).
Result<std::string> advertised_host(const std::string& bind_address, const std::string& advertise);

struct Options {           // bytes
  int send_buffer = 0;     // 0 leaves the kernel's autotuning on
  int receive_buffer = 0;  // likewise
  int most_unsent = 0;     // TCP_NOTSENT_LOWAT; 0: as much as the send buffer holds
  bool zerocopy = false;   // SO_ZEROCOPY
};

// Whether the kernel knows SO_ZEROCOPY.
bool knows_zerocopy();

// A listening socket; kAlreadyExists naming host and port when the port is taken.
Result<UniqueFd> listen_on(const std::string& host, std::uint16_t port, const Options& options);
Result<std::uint16_t> bound_port(int fd);
// A non-blocking socket on its way to `address`, and errno if the system refused already.
struct Connecting {
  UniqueFd fd;
  int error = 0;
};
Result<Connecting> start_connect(const Address& address, const Options& options);
// Both ends of every connection: no delay, bounded silence, few bytes out of our hands.
Status set_connection_options(int fd, const Options& options);

}  // namespace penstock::socket

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Nonblocking, close-on-exec TCP sockets with the options of a control connection: TCP_NODELAY,
// and TCP_USER_TIMEOUT so that a peer that vanished without a word is noticed.

#include <string>

#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"
#include "transport/control/address.h"

namespace penstock::control {

// Listens on the first address that can be bound. kAlreadyExists when the port is taken; otherwise
// kSystem, both naming the address.
Result<UniqueFd> open_listener(const std::string& address);

// The next connection that waits, or none with errno.
UniqueFd accept_connection(int listener, TimeNs user_timeout_ns);

// A socket that connects or has connected, or none with errno.
UniqueFd start_connect(const SocketAddress& to, TimeNs user_timeout_ns);

// errno of a connect that has ended; 0 if it is connected.
int connect_result(int fd);

// epoll_ctl: adds or changes what `epoll` reports about `fd`, as `serial`.
Status watch(int epoll, int operation, int fd, std::uint32_t events, std::uint64_t serial);

// Reads and throws away what has arrived. False once the peer has closed or the socket is broken.
bool discard_input(int fd);

}  // namespace penstock::control

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The yardsticks of tcp_bench: the same bytes between the same two threads over a bare socket pair,
// with nothing but send, recv and poll.

#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/base/unique_fd.h"

namespace penstock::bench {

// A connected pair over 127.0.0.1, TCP_NODELAY on both ends, blocking.
struct SocketPair {
  UniqueFd a, b;
};
SocketPair make_socket_pair();

// Sends `count` messages of `bytes` from the slots of `buffer` in turn; blocking.
void send_all(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count);
void receive_all(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count);

// Sends and receives `count` messages at once on one non-blocking socket, sleeping in poll() when
// neither direction moves.
void exchange_all(int fd, std::span<std::byte> out, std::span<std::byte> in, std::size_t bytes,
                  std::size_t count);

// One message there and one back, `count` times; spins on MSG_DONTWAIT when `spin`.
void ping(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count, bool spin);
void pong(int fd, std::span<std::byte> buffer, std::size_t bytes, std::size_t count, bool spin);

}  // namespace penstock::bench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Plain TCP streams between two processes of this host, and the loop that keeps one busy: what raw
// sockets can do, measured without any of Penstock's own protocol.

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace penstock::psbench {

// Both ends of one connection over 127.0.0.1, without Nagle's delay.
using TcpPair = std::pair<UniqueFd, UniqueFd>;

Result<std::vector<TcpPair>> connect_streams(std::size_t streams);

// Sends all of `out` and fills all of `in`, taking turns, on one socket. Both may be
// empty. kTimeout past `deadline_ns` (SystemClock), kConnectionLost when the peer closed.
Status exchange_bytes(int fd, std::span<const std::byte> out, std::span<std::byte> in,
                      TimeNs deadline_ns);

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the two ends of one connection share. Owned by the switchboard; lives until both endpoints
// are destroyed, so that either may knock at the other's gate at any time.

#include <array>
#include <cstdint>

#include "transport/loopback/gate.h"

namespace penstock::loopback {

class LoopbackEndpoint;

struct Connection {
  // `endpoint` may be used by the other end only inside `gate`.
  struct Side {
    Gate gate;
    LoopbackEndpoint* endpoint = nullptr;
  };
  std::uint64_t serial = 0;
  std::array<Side, 2> sides;
  int attached = 2;  // endpoints not yet destroyed; guarded by the switchboard
};

}  // namespace penstock::loopback

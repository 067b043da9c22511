// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "transport/base/clock.h"

namespace penstock {

// What goes wrong on a LoopbackFabric, drawn from one seeded stream: equal plans and equal calls
// give equal events. A fabric with a plan is driven by LoopbackFabric::step() on one thread.
struct FaultPlan {
  std::uint64_t seed = 0;  // 0: no faults, no schedule, memory speed, threads allowed
};

}  // namespace penstock

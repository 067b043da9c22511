// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "transport/base/clock.h"

namespace penstock {

// A delay is uniform in [min_ns, max_ns], and now and then a spike longer.
struct DelayRange {
  TimeNs min_ns = 0;
  TimeNs max_ns = 0;
};

// What goes wrong on a LoopbackFabric, drawn from one seeded stream: equal plans and equal calls
// give equal events. A fabric with a plan is driven by LoopbackFabric::step() on one thread;
// without one (seed 0) it runs at memory speed and takes threads. On one endpoint unordered writes
// alone overtake, on one control channel nothing does; between them independent delays reorder.
// Probabilities are per million.
struct FaultPlan {
  std::uint64_t seed = 0;

  DelayRange data;     // a post to its delivery, and the delivery to its completion
  DelayRange control;  // a frame to its delivery
  std::uint32_t spike_per_million = 0;  // of every delay
  TimeNs spike_ns = 0;                  // added then

  std::uint32_t reorder_per_million = 0;  // of every unordered write: it keeps no place in line

  std::uint32_t cut_per_million = 0;  // of every post: its connection breaks
  // At a break, per side: the first few posts under way are applied all the same, although their
  // completions say kConnectionLost (or kCancelled where the poster closed) …
  std::uint32_t applied_at_cut_per_million = 0;
  // … and of the next write a prefix of the bytes lands, without its immediate.
  std::uint32_t torn_at_cut_per_million = 0;

  // Of every death drawn by LoopbackFabric::draw_death(): the peers hear nothing.
  std::uint32_t silent_death_per_million = 0;
  // A post to a peer that died silently ends with kConnectionLost this long after its delivery was
  // due; the retry timer of a real NIC.
  TimeNs retry_timeout_ns = 2 * kSecond;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Every bound of the engine, with its reason and its relations.

#include <cstddef>
#include <cstdint>

#include "kernels/update.h"
#include "transport/base/clock.h"

namespace penstock {

// A slice's contributions are a 64-bit bitmap: one word to test whether a round is full.
inline constexpr std::uint32_t kMaxJobWorkers = 64;
static_assert(kMaxJobWorkers <= kMaxWorkers, "the fused kernel takes every worker in one pass");
inline constexpr std::uint32_t kMaxJobServers = 1024;
inline constexpr std::uint32_t kMaxLanes = 64;

// The slice index takes 24 bits of the immediate.
inline constexpr std::uint32_t kMaxSlicesPerLane = 1U << 24;

inline constexpr std::uint64_t kMaxElements = std::uint64_t{1}
                                              << 40;  // of one tensor: 4 TiB of fp32
inline constexpr std::size_t kMaxDimensions = 16;
// Divided by any number of workers these are still normal floats.
inline constexpr double kMinGradientScale = 0x1p-120, kMaxGradientScale = 0x1p120;
static_assert(0x1p-120 / kMaxJobWorkers >= 0x1p-126);
inline constexpr std::size_t kMaxNameBytes = 256;
// One declaration takes about 300 bytes on the wire; 16 MiB frames hold 50,000.
inline constexpr std::size_t kMaxDeclarationsPerCall = 20'000;

// What one worker gives to all through the scheduler: keys and addresses, not data.
inline constexpr std::size_t kMaxShareBytes = 64 << 10;

// Slices start on this many elements so that every dtype starts on a cache line.
inline constexpr std::uint64_t kSliceAlignment = 64;
inline constexpr std::uint64_t kMinSliceBytes = 1024;
inline constexpr std::uint64_t kMaxSliceBytes = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kDefaultSliceBytes = std::uint64_t{256} << 10;

// Posts outstanding on one endpoint; the byte window below is reached first with default slices.
inline constexpr std::uint32_t kSendDepth = 1024;
// Bytes a worker has on the way to one server lane. Small enough that a slice of high priority that
// becomes ready late overtakes what waits, large enough for 25 Gb/s × 2 ms.
inline constexpr std::uint64_t kWindowBytes = std::uint64_t{8} << 20;
// Completions taken from a queue in one go: few, so that slices are summed while still in cache.
inline constexpr std::size_t kPollBatch = 8;
// Commands from other threads to a lane: one per key of a step; a full ring is refused, not waited
// for.
inline constexpr std::size_t kLaneCommands = 32'768;
static_assert(kLaneCommands > kMaxDeclarationsPerCall, "a whole model can be pushed in one go");

// All time-outs derive from the detection time.
inline constexpr TimeNs kDefaultDetectNs = 3 * kSecond;
constexpr TimeNs heartbeat_interval_ns(TimeNs detect_ns) { return detect_ns / 6; }
inline constexpr TimeNs kDefaultCallTimeoutNs = 30 * kSecond;
inline constexpr TimeNs kReconnectFirstDelayNs = 10 * kMillisecond;  // then doubled
inline constexpr TimeNs kReconnectMaxDelayNs = kSecond;

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What transports counted, by rail: Device::counters() of one process or of many, added up.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "transport/api/device.h"

namespace penstock::psbench {

// rail → name → sum. A rail is what precedes the last point of a counter's name ("rxe0:1" of
// "rxe0:1.bytes_sent"), or the transport where nothing does.
using RailCounters = std::map<std::string, std::map<std::string, std::uint64_t>>;

void add(RailCounters& sums, const std::string& transport, std::span<const Counter> counters);

// A line per rail that counted anything, with what is not 0: "<who> <rail>: bytes_sent 1.2G, …".
std::string lines_of(const RailCounters& sums, const std::string& who);

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/counters.h"

#include <fmt/format.h>

#include "bench/psbench/sizes.h"

namespace penstock::psbench {

void add(RailCounters& sums, const std::string& transport, std::span<const Counter> counters) {
  for (const Counter& counter : counters) {
    const std::size_t point = counter.name.rfind('.');
    const bool bare = point == std::string::npos;
    sums[bare ? transport : counter.name.substr(0, point)]
        [bare ? counter.name : counter.name.substr(point + 1)] += counter.value;
  }
}

std::string lines_of(const RailCounters& sums, const std::string& who) {
  std::string lines;
  for (const auto& [rail, counters] : sums) {
    std::string line;
    for (const auto& [name, value] : counters) {
      if (value == 0) continue;
      line += line.empty() ? "" : ", ";
      line += fmt::format("{} {}", name,
                          name.starts_with("bytes_") ? format_size(value) : std::to_string(value));
    }
    if (!line.empty()) lines += fmt::format("{} {}: {}\n", who, rail, line);
  }
  return lines;
}

}  // namespace penstock::psbench

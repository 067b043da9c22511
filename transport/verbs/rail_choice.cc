// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/rail_choice.h"

#include <algorithm>

namespace penstock::verbs {

std::size_t earliest_finish(std::span<const RailLoad> rails, std::uint64_t bytes) {
  const auto finish = [bytes](const RailLoad& rail) {
    return static_cast<double>(rail.outstanding_bytes + bytes) / rail.speed;
  };
  const auto best =
      std::min_element(rails.begin(), rails.end(),
                       [&](const RailLoad& a, const RailLoad& b) { return finish(a) < finish(b); });
  return static_cast<std::size_t>(best - rails.begin());
}

}  // namespace penstock::verbs

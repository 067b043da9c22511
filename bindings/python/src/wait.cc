// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/wait.h"

#include <cmath>

namespace penstock::python {

std::int64_t timeout_ms(std::optional<double> timeout_s, std::int64_t otherwise_ms) {
  constexpr double kForEverS = 1e9;  // thirty years
  if (!timeout_s) return otherwise_ms;
  if (std::isnan(*timeout_s) || *timeout_s < 0)
    raise(PENSTOCK_INVALID_ARGUMENT, "timeout_s is below 0; give seconds, or None for the default");
  return static_cast<std::int64_t>(std::ceil(std::min(*timeout_s, kForEverS) * 1e3));
}

}  // namespace penstock::python

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/protocol/slice.h"

#include "engine/protocol/limits.h"
#include "transport/base/check.h"

namespace penstock {

std::vector<Slice> cut(std::uint64_t elements, std::uint64_t element_bytes,
                       std::uint64_t slice_bytes) {
  CHECK(elements > 0 && element_bytes > 0 && element_bytes <= 8);
  CHECK(slice_bytes >= kMinSliceBytes && slice_bytes <= kMaxSliceBytes);
  const std::uint64_t step = slice_bytes / element_bytes / kSliceAlignment * kSliceAlignment;
  std::vector<Slice> slices;
  slices.reserve(elements / step + 1);
  for (std::uint64_t begin = 0; begin < elements; begin += step) {
    const std::uint64_t left = elements - begin;
    if (left < step / 4 && !slices.empty()) {
      slices.back().count += left;
      break;
    }
    slices.push_back({begin, left < step ? left : step});
  }
  return slices;
}

}  // namespace penstock

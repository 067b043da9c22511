// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/free_ranges.h"

#include <algorithm>
#include <iterator>

#include "transport/base/check.h"

namespace penstock {

FreeRanges::FreeRanges(std::uint64_t bytes) : bytes_(bytes), free_bytes_(bytes) {
  if (bytes > 0) free_.emplace(0, bytes);
}

std::optional<std::uint64_t> FreeRanges::take(std::uint64_t bytes) {
  const auto range = std::find_if(free_.begin(), free_.end(),
                                  [bytes](const auto& free) { return free.second >= bytes; });
  if (range == free_.end()) return {};
  const auto [offset, room] = *range;
  free_.erase(range);
  if (room > bytes) free_.emplace(offset + bytes, room - bytes);
  free_bytes_ -= bytes;
  return offset;
}

void FreeRanges::give(std::uint64_t offset, std::uint64_t bytes) {
  std::uint64_t end = offset + bytes;
  const auto after = free_.lower_bound(offset);
  const auto before = after == free_.begin() ? free_.end() : std::prev(after);
  CHECK(end <= bytes_ && (after == free_.end() || end <= after->first) &&
            (before == free_.end() || before->first + before->second <= offset),
        "bytes {} to {} are given back twice", offset, end);
  free_bytes_ += bytes;
  if (after != free_.end() && after->first == end) {
    end += after->second;
    free_.erase(after);
  }
  if (before != free_.end() && before->first + before->second == offset)
    before->second = end - before->first;
  else
    free_.emplace(offset, end - offset);
}

}  // namespace penstock

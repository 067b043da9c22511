// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/worker/gradient_encoder.h"

#include <algorithm>

#include "transport/base/check.h"

namespace penstock {

Status GradientEncoder::place(std::vector<Slice> slices, RegionCache& regions) {
  constexpr std::uint64_t kLine = 64;  // two lanes never write the same cache line
  std::sort(slices.begin(), slices.end(),
            [](const Slice& a, const Slice& b) { return a.begin < b.begin; });
  std::uint64_t bytes = 0;
  for (const Slice& slice : slices) {
    offsets_.emplace_back(slice.begin, bytes);
    bytes += (encoded_bytes(codec_, slice.count) + kLine - 1) / kLine * kLine;
  }
  PENSTOCK_ASSIGN_OR_RETURN(region_, regions.allocate(bytes, Access::kLocal));
  return {};
}

std::uint64_t GradientEncoder::offset(const Slice& slice) const {
  const auto found =
      std::lower_bound(offsets_.begin(), offsets_.end(), std::pair(slice.begin, std::uint64_t{0}));
  CHECK(found != offsets_.end() && found->first == slice.begin, "no slice at {}", slice.begin);
  return found->second;
}

void GradientEncoder::encode(const Slice& slice, std::uint64_t offset) {
  kernels_.codecs->encode(codec_, gradients_.data() + slice.begin, residual_.data() + slice.begin,
                          region_->bytes().data() + offset, slice.count);
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace penstock {

// Contiguous elements of one key.
struct Slice {
  std::uint64_t begin = 0;
  std::uint64_t count = 0;
  bool operator==(const Slice&) const = default;
};

// Cuts `elements` into slices of about `slice_bytes` at `element_bytes` each. Slices start on
// kSliceAlignment elements; a tail shorter than a quarter of a slice joins the one before it.
//   elements ≥ 1, element_bytes 1…8, slice_bytes kMinSliceBytes…kMaxSliceBytes (CHECKed).
std::vector<Slice> cut(std::uint64_t elements, std::uint64_t element_bytes,
                       std::uint64_t slice_bytes);

}  // namespace penstock

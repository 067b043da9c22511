// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The codec of one key on a worker: what its last encodings left out, and where the encoded slices
// lie until they are sent. Lanes encode their own slices, side by side.

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/protocol/slice.h"
#include "engine/runtime/region_cache.h"
#include "kernels/table.h"

namespace penstock {

class GradientEncoder {
 public:
  // `gradients` [elements] are the caller's; the key keeps them registered. The residual takes as
  // much memory again.
  GradientEncoder(const KernelTable& kernels, const CodecSpec& codec,
                  std::span<const float> gradients)
      : kernels_(kernels), codec_(codec), gradients_(gradients), residual_(gradients.size()) {}

  // Takes registered memory for the encoded bytes of the slices that the key is cut into, in any
  // order. Before anything else, once. Errors: those of registering memory.
  Status place(std::vector<Slice> slices, RegionCache& regions);

  const MemoryRegion& region() const { return *region_; }
  // Of a slice's encoded bytes in the region. Set-up only: it searches.
  std::uint64_t offset(const Slice& slice) const;

  // Encodes what the gradient buffer holds to offset(slice). Once a round: the residual changes.
  void encode(const Slice& slice, std::uint64_t offset);

 private:
  const KernelTable& kernels_;
  const CodecSpec codec_;
  const std::span<const float> gradients_;
  std::vector<float> residual_;
  std::shared_ptr<const MemoryRegion> region_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> offsets_;  // by the slice's first element
};

}  // namespace penstock

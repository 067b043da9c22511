// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one batch launches: slices are put in anyhow, and launch() copies one table to the GPU and
// starts as few kernels as there are passes, rules and gradient types among them, passes in the
// order of their enumeration, steps last. Thread: the lane's. Allocates nothing after it is made.

#include <algorithm>
#include <vector>

#include "engine/gpu/compute_device.h"

namespace penstock {

class GpuBatch {
 public:
  static constexpr std::uint32_t kMaxSlices = 64;
  // Of one slice in one batch, besides a step: topk, park, moments, squares.
  static constexpr std::uint32_t kMostPasses = 4;

  explicit GpuBatch(std::uint32_t workers);

  // Of the table, on a multiple of 256: gradients' addresses, steps and passes.
  static std::size_t table_bytes(std::uint32_t workers);

  // Empties it. `host` is pinned, `device` its copy's place; both as long as table_bytes().
  void begin(std::byte* host, std::byte* device);

  // Gradients' addresses as a kernel finds them. At most workers + 2 for each slice.
  const void* const* put(std::span<const void* const> gradients);
  void step(UpdateRule rule, cuda::GradientType gradients, const cuda::SliceStep& slice);
  void pass(cuda::Pass pass, cuda::GradientType gradients, const cuda::SlicePass& slice);

  Status launch(ComputeStream& stream);

 private:
  template <class Which, class Slice>
  struct Entry {
    std::pair<Which, cuda::GradientType> kernel;
    Slice slice;
  };
  using Step = Entry<UpdateRule, cuda::SliceStep>;
  using Pass = Entry<cuda::Pass, cuda::SlicePass>;

  template <class Entries>
  std::size_t write(Entries& entries);
  template <class Entries, class Start>
  static Status start(const Entries& entries, const Start& start);

  std::byte* host_ = nullptr;
  std::byte* device_ = nullptr;
  std::size_t used_ = 0;
  std::vector<Step> steps_;
  std::vector<Pass> passes_;
};

}  // namespace penstock

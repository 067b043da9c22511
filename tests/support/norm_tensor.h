// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A whole tensor cut into slices and stepped by NormStep on one thread: what servers and lanes must
// equal bit for bit.

#include <vector>

#include "kernels/norm_step.h"

namespace penstock::test {

struct NormTensor {
  // `cuts`: where slices begin besides 0.
  NormTensor(const OptimizerSpec& optimizer, std::vector<std::uint64_t> dimensions,
             const std::vector<std::size_t>& cuts, const KernelTable& kernels);

  // Sums `gradients` [worker] → [elements] of dtype; nullptr: nothing this round.
  void sum(std::uint64_t step, const std::vector<const void*>& gradients, DType dtype, float scale);
  NormSums sums() const { return add_in_order(parts); }
  void finish(double group);  // after sum()

  OptimizerSpec spec;
  std::vector<std::uint64_t> shape;
  std::vector<float> parameters, parked;
  std::vector<float> state[kMaxStatePlanes];
  std::vector<NormSlice> slices;
  std::vector<NormSums> parts;
  NormStep norm_step;

 private:
  template <class Pass>
  void run(const Pass& pass) {
    for (std::size_t i = 0; i < slices.size(); ++i) parts[i] = pass(slices[i]);
  }
};

}  // namespace penstock::test

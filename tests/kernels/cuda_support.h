// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Launches of the GPU's bodies on the CPU, blocks and threads in a random order.

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cuda/host_pass.h"
#include "kernels/update.h"
#include "transport/base/random.h"

namespace penstock::test {

// `args` as a table has it: gradients that are there, in the caller's array.
inline cuda::SliceStep step_of(const Coefficients& coefficients, const UpdateArgs& args) {
  cuda::SliceStep step;
  step.gradients = args.gradients;
  step.workers = args.workers;
  step.parameters = args.parameters;
  std::copy_n(args.state, kMaxStatePlanes, step.state);
  step.wire = args.wire;
  step.wire_dtype = args.wire_dtype;
  step.count = args.count;
  step.first_element = args.first_element;
  step.scale = args.scale;
  step.coefficients = coefficients;
  return step;
}

// Numbers the blocks of the slices; returns how many there are.
template <class Slice>
std::uint32_t number_blocks(std::vector<Slice>& slices) {
  std::uint32_t blocks = 0;
  for (Slice& slice : slices) {
    slice.first_block = blocks;
    blocks += cuda::blocks_of(slice.count);
  }
  return blocks;
}

template <class T>
void shuffle(T& values, SeededRandom& random) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

// One launch over slices of one rule; its threads run in a random order.
inline void launch_step(std::vector<cuda::SliceStep>& steps, cuda::GradientType gradients,
                        std::uint64_t seed) {
  const std::uint32_t blocks = number_blocks(steps);
  std::vector<cuda::HostContext> threads;
  for (std::uint32_t block = 0; block < blocks; ++block)
    for (std::uint32_t thread = 0; thread < cuda::kThreads; ++thread)
      threads.push_back({block, thread});
  SeededRandom random(seed);
  shuffle(threads, random);
  for (const cuda::HostContext& thread : threads)
    cuda::step_on_host(steps.data(), static_cast<std::uint32_t>(steps.size()), gradients, thread);
}

inline void launch_pass(cuda::Pass pass, cuda::GradientType gradients,
                        std::vector<cuda::SlicePass>& slices, std::uint64_t seed) {
  const auto count = static_cast<std::uint32_t>(slices.size());
  std::vector<std::uint32_t> blocks(cuda::pass_blocks(pass, count, number_blocks(slices)));
  std::iota(blocks.begin(), blocks.end(), 0U);
  cuda::ThreadOrder order;
  std::iota(order.begin(), order.end(), 0U);
  SeededRandom random(seed);
  shuffle(blocks, random);
  for (const std::uint32_t block : blocks) {
    shuffle(order, random);
    cuda::pass_on_host(pass, gradients, slices.data(), count, block, order);
  }
}

}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The GPU's passes run by the CPU, for tests: what a block does, its threads in an order of the
// caller's choice between any two barriers.

#include <array>

#include "kernels/cuda/host_step.h"
#include "kernels/cuda/pass-inl.h"
#include "kernels/cuda/squares-inl.h"
#include "kernels/cuda/top_k-inl.h"

namespace penstock::cuda {

using ThreadOrder = std::array<std::uint32_t, kThreads>;  // names each thread once

inline void top_k_on_host(const SlicePass& slice, const ThreadOrder& order) {
  TopKShared shared;
  for (const std::uint32_t thread : order) top_k_clear(slice, shared, thread);
  for (std::uint32_t worker = 0; worker < slice.workers; ++worker)
    for (std::uint64_t round = 0; round < top_k_rounds(slice); ++round) {
      for (const std::uint32_t thread : order) top_k_read(slice, shared, thread, worker, round);
      for (const std::uint32_t thread : order) top_k_scan(shared, thread);
      for (const std::uint32_t thread : order) top_k_add(slice, shared, thread, worker, round);
      top_k_go_on(slice, shared, round);
    }
}

inline void squares_on_host(const SlicePass& slice, const ThreadOrder& order) {
  SquaresShared shared;
  double sums[kSquareLanes] = {};
  for (std::uint64_t begin = 0; begin < slice.count; begin += SquaresShared::kTile) {
    for (const std::uint32_t thread : order) squares_load(slice, shared, thread, begin);
    for (const std::uint32_t thread : order)
      if (thread < kSquareLanes) sums[thread] = squares_add(shared, thread, sums[thread]);
  }
  for (const std::uint32_t thread : order)
    if (thread < kSquareLanes) squares_keep(shared, thread, sums[thread]);
  squares_finish(slice, shared);
}

// How many blocks a launch has.
inline std::uint32_t pass_blocks(Pass pass, std::uint32_t count, std::uint32_t blocks) {
  return is_block_a_slice(pass) ? count : blocks;
}

// One of them.
inline void pass_on_host(Pass pass, GradientType gradients, const SlicePass* slices,
                         std::uint32_t count, std::uint32_t block, const ThreadOrder& order) {
  const auto each = [&](const auto& body) {
    for (const std::uint32_t thread : order) body(HostContext{block, thread});
  };
  switch (pass) {
    case Pass::kPark:
      return with_gradients(gradients, [&](auto source) {
        each([&](const HostContext& at) { park_body<decltype(source)>(at, slices, count); });
      });
    case Pass::kTopK:
      return top_k_on_host(slices[block], order);
    case Pass::kSquares:
      return squares_on_host(slices[block], order);
    case Pass::kLambMoments:
      return each([&](const HostContext& at) { lamb_moments_body(at, slices, count); });
    case Pass::kLambApply:
      return each([&](const HostContext& at) { lamb_apply_body(at, slices, count); });
  }
}

}  // namespace penstock::cuda

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The sum of topk gradients: one block for a slice, worker after worker, as many entries at a time
// as there are threads. What comes from the wire may be anything: an entry counts when its index is
// below `count` and larger than every one before it that is, as TopKReader has it. Each function is
// what a thread does between two barriers.

#include "kernels/cuda/elements-inl.h"
#include "kernels/cuda/pass.h"

PENSTOCK_BEGIN_TARGET

struct TopKShared {
  static constexpr std::uint32_t kGroup = 16;
  // Indices plus one; 0 for none.
  std::uint64_t next[kThreads];             // of these entries
  std::uint64_t before[kThreads];           // the largest of the entries before it in its group
  std::uint64_t groups[kThreads / kGroup];  // the largest of each group
  std::uint64_t lowest;                     // the largest of the entries before these
};

PENSTOCK_DEVICE inline std::uint64_t top_k_rounds(const SlicePass& slice) {
  return (slice.kept + kThreads - 1) / kThreads;
}

PENSTOCK_DEVICE inline void top_k_clear(const SlicePass& slice, TopKShared& shared,
                                        std::uint32_t thread) {
  if (thread == 0) shared.lowest = 0;
  for (std::uint64_t i = thread; i < slice.count; i += kThreads) slice.sums[i] = 0;
}

PENSTOCK_DEVICE inline void top_k_read(const SlicePass& slice, TopKShared& shared,
                                       std::uint32_t thread, std::uint32_t worker,
                                       std::uint64_t round) {
  const auto* const indices = static_cast<const Word*>(slice.gradients[worker]);
  const std::uint64_t entry = round * kThreads + thread;
  const std::uint64_t index = entry < slice.kept ? indices[entry].bits : slice.count;
  shared.next[thread] = index < slice.count ? index + 1 : 0;
}

PENSTOCK_DEVICE inline std::uint64_t larger_of(std::uint64_t a, std::uint64_t b) {
  return a > b ? a : b;
}

PENSTOCK_DEVICE inline void top_k_scan(TopKShared& shared, std::uint32_t thread) {
  constexpr std::uint32_t kGroup = TopKShared::kGroup;
  std::uint64_t largest = 0;
  for (std::uint32_t t = thread / kGroup * kGroup; t < thread; ++t)
    largest = larger_of(largest, shared.next[t]);
  shared.before[thread] = largest;
  if (thread % kGroup == kGroup - 1)
    shared.groups[thread / kGroup] = larger_of(largest, shared.next[thread]);
}

PENSTOCK_DEVICE inline void top_k_add(const SlicePass& slice, const TopKShared& shared,
                                      std::uint32_t thread, std::uint32_t worker,
                                      std::uint64_t round) {
  std::uint64_t largest = larger_of(shared.before[thread], shared.lowest);
  for (std::uint32_t g = 0; g < thread / TopKShared::kGroup; ++g)
    largest = larger_of(largest, shared.groups[g]);
  const std::uint64_t next = shared.next[thread];
  if (next <= largest) return;
  const auto* const values = static_cast<const Word*>(slice.gradients[worker]) + slice.kept;
  float& sum = slice.sums[next - 1];
  sum = add(sum, std::bit_cast<float>(values[round * kThreads + thread].bits));
}

// Of one thread. What it writes is read behind the next barrier.
PENSTOCK_DEVICE inline void top_k_go_on(const SlicePass& slice, TopKShared& shared,
                                        std::uint64_t round) {
  for (const std::uint64_t largest : shared.groups)
    shared.lowest = larger_of(shared.lowest, largest);
  if (round + 1 == top_k_rounds(slice)) shared.lowest = 0;  // the next worker's first
}

PENSTOCK_END_TARGET

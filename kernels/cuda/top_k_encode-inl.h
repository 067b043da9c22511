// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// topk with error feedback, as codec/top_k.cc has it: one block for a slice. A radix selection
// finds the smallest magnitude that is kept and how many of its equals are; then the elements go
// through in order, as many at a time as there are threads. Each function is what a thread does
// between two barriers, or thread 0 alone.

#include "kernels/cuda/encode-inl.h"

PENSTOCK_BEGIN_TARGET

struct TopKEncodeShared {
  static constexpr std::uint32_t kGroup = 16;
  static constexpr std::uint32_t kDigits = 2048;
  std::uint32_t histogram[kDigits];
  std::uint32_t smallest;  // magnitude that is kept, its upper bits first
  std::uint64_t ties;      // of those equal to it, how many are kept from here on
  std::uint64_t sent;
  // Elements above it, and 2¹⁶ times those equal to it.
  std::uint32_t counts[kThreads];           // 0 or 1 of each
  std::uint32_t before[kThreads];           // in the group, before this thread's
  std::uint32_t groups[kThreads / kGroup];  // in each group
};

// The digits of a magnitude, from the top.
struct TopKDigit {
  std::uint32_t shift, width;
};
inline constexpr std::uint32_t kTopKDigits = 3;
PENSTOCK_DEVICE constexpr TopKDigit top_k_digit(std::uint32_t which) {
  return which == 0 ? TopKDigit{20, 11} : which == 1 ? TopKDigit{10, 10} : TopKDigit{0, 10};
}

// Calls `eight(begin)` and `some(begin, end)` for the thread's part of the whole slice.
template <class Eight, class Some>
PENSTOCK_DEVICE inline void for_slice(const SliceEncode& slice, std::uint32_t thread,
                                      const Eight& eight, const Some& some) {
  for (std::uint32_t block = 0; block < encode_blocks_of(slice.count); ++block)
    for_runs(slice, block, thread, eight, some);
}

PENSTOCK_DEVICE inline void top_k_clear_histogram(TopKEncodeShared& shared, std::uint32_t thread) {
  for (std::uint32_t d = thread; d < TopKEncodeShared::kDigits; d += kThreads)
    shared.histogram[d] = 0;
}

PENSTOCK_DEVICE inline void top_k_correct(const SliceEncode& slice, TopKEncodeShared& shared,
                                          std::uint32_t thread) {
  top_k_clear_histogram(shared, thread);
  if (thread == 0) {
    shared.smallest = 0;
    shared.ties = slice.kept;
    shared.sent = 0;
  }
  for_slice(
      slice, thread,
      [&](std::uint64_t begin) {
        float r[kPerThread];
        load_corrected(slice, begin, r);
        Float32::store(r, slice.residual + begin);
      },
      [&](std::uint64_t begin, std::uint64_t end) {
        for (std::uint64_t i = begin; i < end; ++i)
          slice.residual[i] = corrected(slice.residual[i], slice.gradient[i]);
      });
}

// `count(word)` adds one, whoever else does so.
template <class Count>
PENSTOCK_DEVICE void top_k_count(const SliceEncode& slice, TopKEncodeShared& shared,
                                 std::uint32_t thread, TopKDigit digit, const Count& count) {
  const auto one = [&](float value) {
    const std::uint32_t magnitude = magnitude_bits(value);
    if (((magnitude ^ shared.smallest) >> (digit.shift + digit.width)) == 0)
      count(shared.histogram[magnitude >> digit.shift & ((1U << digit.width) - 1)]);
  };
  for_slice(
      slice, thread,
      [&](std::uint64_t begin) {
        float r[kPerThread];
        Float32::load(slice.residual + begin, r);
        for (const float value : r) one(value);
      },
      [&](std::uint64_t begin, std::uint64_t end) {
        for (std::uint64_t i = begin; i < end; ++i) one(slice.residual[i]);
      });
}

// Of one thread.
PENSTOCK_DEVICE inline void top_k_pick(TopKEncodeShared& shared, TopKDigit digit) {
  std::uint32_t at = (1U << digit.width) - 1;
  for (; shared.histogram[at] < shared.ties; --at) shared.ties -= shared.histogram[at];
  shared.smallest |= at << digit.shift;
}

PENSTOCK_DEVICE inline std::uint64_t top_k_encode_rounds(const SliceEncode& slice) {
  return (slice.count + kThreads - 1) / kThreads;
}

PENSTOCK_DEVICE inline void top_k_mark(const SliceEncode& slice, TopKEncodeShared& shared,
                                       std::uint32_t thread, std::uint64_t round) {
  const std::uint64_t i = round * kThreads + thread;
  const std::uint32_t magnitude = i < slice.count ? magnitude_bits(slice.residual[i]) : 0;
  const bool above = i < slice.count && magnitude > shared.smallest;
  const bool equal = i < slice.count && magnitude == shared.smallest;
  shared.counts[thread] = (above ? 1U : 0U) + (equal ? 0x1'0000U : 0U);
}

PENSTOCK_DEVICE inline void top_k_sum(TopKEncodeShared& shared, std::uint32_t thread) {
  constexpr std::uint32_t kGroup = TopKEncodeShared::kGroup;
  std::uint32_t sum = 0;
  for (std::uint32_t t = thread / kGroup * kGroup; t < thread; ++t) sum += shared.counts[t];
  shared.before[thread] = sum;
  if (thread % kGroup == kGroup - 1) shared.groups[thread / kGroup] = sum + shared.counts[thread];
}

// Of so many above and equal, how many are sent.
PENSTOCK_DEVICE inline std::uint64_t top_k_sent(const TopKEncodeShared& shared,
                                                std::uint32_t counts) {
  const std::uint64_t equal = counts >> 16;
  return (counts & 0xffff) + (equal < shared.ties ? equal : shared.ties);
}

PENSTOCK_DEVICE inline void top_k_send(const SliceEncode& slice, const TopKEncodeShared& shared,
                                       std::uint32_t thread, std::uint64_t round) {
  const std::uint32_t mine = shared.counts[thread];
  if (mine == 0) return;
  std::uint32_t before = shared.before[thread];
  for (std::uint32_t g = 0; g < thread / TopKEncodeShared::kGroup; ++g) before += shared.groups[g];
  if (mine == 0x1'0000U && before >> 16 >= shared.ties) return;
  const std::uint64_t i = round * kThreads + thread;
  const std::uint64_t place = shared.sent + top_k_sent(shared, before);
  auto* const words = reinterpret_cast<Word*>(slice.encoded);
  words[place].bits = static_cast<std::uint32_t>(i);
  words[slice.kept + place].bits = std::bit_cast<std::uint32_t>(slice.residual[i]);
  slice.residual[i] = 0;
}

// Of one thread. What it writes is read behind the next barrier.
PENSTOCK_DEVICE inline void top_k_sent_so_far(TopKEncodeShared& shared) {
  std::uint32_t all = 0;
  for (const std::uint32_t group : shared.groups) all += group;
  shared.sent += top_k_sent(shared, all);
  const std::uint64_t equal = all >> 16;
  shared.ties -= equal < shared.ties ? equal : shared.ties;
}

PENSTOCK_END_TARGET

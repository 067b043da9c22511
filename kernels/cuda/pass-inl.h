// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The bodies of the passes that go element by element; a thread has eight neighbouring ones, as in
// step-inl.h. Bytes an element: park W·g + 4, lamb's moments 28, its apply 12 + o.

#include "kernels/cuda/pass.h"
#include "kernels/cuda/sums-inl.h"
#include "kernels/math/norms-inl.h"
#include "kernels/math/prologue-inl.h"

PENSTOCK_BEGIN_TARGET

// Calls `eight(slice, begin)` or, where a slice is misaligned or ends, `one(slice, i)`.
template <class Context, class Slice, class Eight, class One>
PENSTOCK_DEVICE inline void for_elements(const Context& context, const Slice* slices,
                                         std::uint32_t count, const Eight& eight, const One& one) {
  const Slice& slice = find_slice(slices, count, context.block());
  const std::uint64_t begin = std::uint64_t{context.block() - slice.first_block} * kBlockElements +
                              context.thread() * kPerThread;
  if (begin >= slice.count) return;
  if (slice.aligned && slice.count - begin >= kPerThread) return eight(slice, begin);
  const std::uint64_t end = begin + kPerThread < slice.count ? begin + kPerThread : slice.count;
  for (std::uint64_t i = begin; i < end; ++i) one(slice, i);
}

// In place where the sums are the only gradient.
template <class Gradients, class Context>
PENSTOCK_DEVICE void park_body(const Context& context, const SlicePass* slices,
                               std::uint32_t count) {
  for_elements(
      context, slices, count,
      [](const SlicePass& slice, std::uint64_t begin) {
        float sum[kPerThread] = {};
        Gradients::sum_eight(slice, begin, sum);
        for (std::uint32_t i = 0; i < kPerThread; ++i)
          sum[i] = clipped(mul(sum[i], slice.scale), slice.clip);
        Float32::store(sum, slice.sums + begin);
      },
      [](const SlicePass& slice, std::uint64_t i) {
        const float sum = mul(Gradients::sum_one(slice, i), slice.scale);
        slice.sums[i] = canonical(clipped(sum, slice.clip));
      });
}

// One element: m and v in place; returns u.
PENSTOCK_DEVICE inline float lamb_direction(const LambDirection<float>& direction, float sum,
                                            float p, float& m, float& v) {
  float state[2] = {m, v};
  direction.moments(sum, state);
  m = canonical(state[0]);
  v = canonical(state[1]);
  return canonical(direction(p, m, v));
}

template <class Context>
PENSTOCK_DEVICE void lamb_moments_body(const Context& context, const SlicePass* slices,
                                       std::uint32_t count) {
  for_elements(
      context, slices, count,
      [](const SlicePass& slice, std::uint64_t begin) {
        const LambDirection<float> direction(slice.lamb);
        float sums[kPerThread], p[kPerThread], m[kPerThread], v[kPerThread];
        Float32::load(slice.sums + begin, sums);
        Float32::load(slice.parameters + begin, p);
        Float32::load(slice.m + begin, m);
        Float32::load(slice.v + begin, v);
        for (std::uint32_t i = 0; i < kPerThread; ++i)
          sums[i] = lamb_direction(direction, mul(sums[i], slice.scale), p[i], m[i], v[i]);
        Float32::store(m, slice.m + begin);
        Float32::store(v, slice.v + begin);
        Float32::store(sums, slice.sums + begin);
      },
      [](const SlicePass& slice, std::uint64_t i) {
        const LambDirection<float> direction(slice.lamb);
        slice.sums[i] = lamb_direction(direction, mul(slice.sums[i], slice.scale),
                                       slice.parameters[i], slice.m[i], slice.v[i]);
      });
}

template <class Context>
PENSTOCK_DEVICE void lamb_apply_body(const Context& context, const SlicePass* slices,
                                     std::uint32_t count) {
  for_elements(
      context, slices, count,
      [](const SlicePass& slice, std::uint64_t begin) {
        float u[kPerThread], p[kPerThread];
        Float32::load(slice.sums + begin, u);
        Float32::load(slice.parameters + begin, p);
        for (std::uint32_t i = 0; i < kPerThread; ++i)
          p[i] = canonical(fma(slice.lamb.rate, u[i], p[i]));
        Float32::store(p, slice.parameters + begin);
        store_wire(p, slice.wire, slice.wire_dtype, begin);
      },
      [](const SlicePass& slice, std::uint64_t i) {
        const float p = canonical(fma(slice.lamb.rate, slice.sums[i], slice.parameters[i]));
        slice.parameters[i] = p;
        store_wire(p, slice.wire, slice.wire_dtype, i);
      });
}

PENSTOCK_END_TARGET

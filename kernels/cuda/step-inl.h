// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The body of the fused update on a GPU. A thread steps eight neighbouring elements: it reads each
// gradient, the parameters and the state once and writes parameters, state and wire once, all in
// 128-bit accesses: W·g + 8 + 8·S + o bytes an element. A Context has block() and thread(): the
// built-in indices on a GPU, two numbers in a test.

#include "kernels/cuda/sums-inl.h"
#include "kernels/math/optimizers-inl.h"
#include "kernels/math/rounding.h"

PENSTOCK_BEGIN_TARGET

template <class T>
PENSTOCK_DEVICE T* plane_at(const SliceStep& slice, std::uint32_t plane, std::uint64_t begin) {
  return static_cast<T*>(slice.state[plane]) + begin;
}

PENSTOCK_DEVICE inline std::uint16_t round_state(const SliceStep& slice, std::uint32_t plane,
                                                 std::uint64_t i, float value) {
  const auto element = static_cast<std::uint32_t>(slice.first_element + i);
  return round_to_bf16(value, rounding_bits(element, slice.coefficients.rounding_key, plane));
}

PENSTOCK_DEVICE inline void load_state(const SliceStep& slice, std::uint32_t plane,
                                       std::uint64_t begin, float (&to)[kPerThread]) {
  if (slice.coefficients.state_dtype == StateDType::kFloat32)
    Float32::load(plane_at<float>(slice, plane, begin), to);
  else
    Bfloat16::load(plane_at<std::uint16_t>(slice, plane, begin), to);
}

PENSTOCK_DEVICE inline void store_state(const SliceStep& slice, std::uint32_t plane,
                                        std::uint64_t begin, const float (&from)[kPerThread]) {
  if (slice.coefficients.state_dtype == StateDType::kFloat32)
    return Float32::store(from, plane_at<float>(slice, plane, begin));
  Quad quad;
  for (std::uint32_t i = 0; i < 4; ++i)
    quad.word[i] = round_state(slice, plane, begin + 2 * i, from[2 * i]) |
                   std::uint32_t{round_state(slice, plane, begin + 2 * i + 1, from[2 * i + 1])}
                       << 16;
  *global(reinterpret_cast<Quad*>(plane_at<std::uint16_t>(slice, plane, begin))) = quad;
}

// What the rule gets to see of a scaled sum; `seen` only counts where there is compensation.
PENSTOCK_DEVICE inline float prepared(const Coefficients& c, float g, float p, float seen) {
  g = clipped(g, c.clip);
  if (c.compensation != 0) g = compensated(g, p, seen, c.compensation);
  return c.l1 != 0 ? penalized(g, p, c.l1) : g;
}

// Eight elements of an aligned slice.
template <class Gradients, class Rule>
PENSTOCK_DEVICE void step_eight(const Rule& rule, const SliceStep& slice, std::uint64_t begin) {
  constexpr int kPlanes = Rule::kPlanes;
  float sum[kPerThread] = {};
  Gradients::sum_eight(slice, begin, sum);
  const Coefficients& c = slice.coefficients;
  float parameters[kPerThread], seen[kPerThread] = {};
  float planes[kPlanes + 1][kPerThread];  // one more: arrays are never empty
  Float32::load(slice.parameters + begin, parameters);
  for (int s = 0; s < kPlanes; ++s) load_state(slice, s, begin, planes[s]);
  if (c.compensation != 0) {
    Float32::load(plane_at<float>(slice, kPlanes, begin), seen);
    Float32::store(parameters, plane_at<float>(slice, kPlanes, begin));
  }
  for (std::uint32_t i = 0; i < kPerThread; ++i) {
    float state[kPlanes + 1];
    for (int s = 0; s < kPlanes; ++s) state[s] = planes[s][i];
    rule(parameters[i], prepared(c, mul(sum[i], slice.scale), parameters[i], seen[i]), state);
    for (int s = 0; s < kPlanes; ++s) planes[s][i] = state[s];
    parameters[i] = canonical(parameters[i]);
  }
  for (int s = 0; s < kPlanes; ++s) store_state(slice, s, begin, planes[s]);
  Float32::store(parameters, slice.parameters + begin);
  store_wire(parameters, slice.wire, slice.wire_dtype, begin);
}

template <class Gradients, class Rule>
PENSTOCK_DEVICE void step_one(const Rule& rule, const SliceStep& slice, std::uint64_t i) {
  constexpr int kPlanes = Rule::kPlanes;
  const float sum = Gradients::sum_one(slice, i);
  float p = slice.parameters[i];
  float state[kPlanes + 1], seen = 0;
  const Coefficients& c = slice.coefficients;
  const bool full = c.state_dtype == StateDType::kFloat32;
  for (int s = 0; s < kPlanes; ++s)
    state[s] =
        full ? *plane_at<float>(slice, s, i) : bf16_to_float(*plane_at<std::uint16_t>(slice, s, i));
  if (c.compensation != 0) {
    seen = *plane_at<float>(slice, kPlanes, i);
    *plane_at<float>(slice, kPlanes, i) = canonical(p);
  }
  rule(p, prepared(c, mul(sum, slice.scale), p, seen), state);
  for (int s = 0; s < kPlanes; ++s)
    if (full)
      *plane_at<float>(slice, s, i) = canonical(state[s]);
    else
      *plane_at<std::uint16_t>(slice, s, i) = round_state(slice, s, i, state[s]);
  slice.parameters[i] = canonical(p);
  store_wire(p, slice.wire, slice.wire_dtype, i);
}

template <class Gradients, class Rule, class Context>
PENSTOCK_DEVICE void step_body(const Context& context, const SliceStep* slices,
                               std::uint32_t count) {
  const SliceStep& slice = find_slice(slices, count, context.block());
  const std::uint64_t begin = std::uint64_t{context.block() - slice.first_block} * kBlockElements +
                              context.thread() * kPerThread;
  if (begin >= slice.count) return;
  const Rule rule(slice.coefficients);
  if (slice.aligned && slice.count - begin >= kPerThread)
    return step_eight<Gradients>(rule, slice, begin);
  const std::uint64_t end = begin + kPerThread < slice.count ? begin + kPerThread : slice.count;
  for (std::uint64_t i = begin; i < end; ++i) step_one<Gradients>(rule, slice, i);
}

PENSTOCK_END_TARGET

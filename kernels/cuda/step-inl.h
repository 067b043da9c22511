// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The body of the fused update on a GPU. A thread steps eight neighbouring elements: it reads each
// gradient, the parameters and the state once and writes parameters, state and wire once, all in
// 128-bit accesses: W·g + 8 + 8·S + o bytes an element. A Context has block() and thread(): the
// built-in indices on a GPU, two numbers in a test.

#include "kernels/cuda/elements-inl.h"
#include "kernels/cuda/step.h"
#include "kernels/math/optimizers-inl.h"
#include "kernels/math/rounding.h"

PENSTOCK_BEGIN_TARGET

// The slice that `block` works on: the last whose first block is not behind it.
PENSTOCK_DEVICE inline const SliceStep& find_slice(const SliceStep* slices, std::uint32_t count,
                                                   std::uint32_t block) {
  std::uint32_t low = 0;
  for (std::uint32_t high = count; high - low > 1;) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (slices[middle].first_block <= block)
      low = middle;
    else
      high = middle;
  }
  return slices[low];
}

template <class Gradient>
PENSTOCK_DEVICE const typename Gradient::Element* gradient_at(const SliceStep& slice,
                                                              std::uint32_t worker,
                                                              std::uint64_t begin) {
  return static_cast<const typename Gradient::Element*>(slice.gradients[worker]) + begin;
}

template <class Type>
PENSTOCK_DEVICE typename Type::Element* wire_at(const SliceStep& slice, std::uint64_t begin) {
  return static_cast<typename Type::Element*>(slice.wire) + begin;
}

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
template <class Gradient, class Rule>
PENSTOCK_DEVICE void step_eight(const Rule& rule, const SliceStep& slice, std::uint64_t begin) {
  constexpr int kPlanes = Rule::kPlanes;
  float sum[kPerThread] = {};
  if (slice.workers > 0) Gradient::load(gradient_at<Gradient>(slice, 0, begin), sum);
  for (std::uint32_t w = 1; w < slice.workers; ++w) {
    float next[kPerThread];
    Gradient::load(gradient_at<Gradient>(slice, w, begin), next);
    for (std::uint32_t i = 0; i < kPerThread; ++i) sum[i] = add(sum[i], next[i]);
  }
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
  if (slice.wire == nullptr) return;
  if (slice.wire_dtype == DType::kBfloat16)
    Bfloat16::store(parameters, wire_at<Bfloat16>(slice, begin));
  else if (slice.wire_dtype == DType::kFloat16)
    Float16::store(parameters, wire_at<Float16>(slice, begin));
  else
    Float32::store(parameters, wire_at<Float32>(slice, begin));
}

template <class Gradient, class Rule>
PENSTOCK_DEVICE void step_one(const Rule& rule, const SliceStep& slice, std::uint64_t i) {
  constexpr int kPlanes = Rule::kPlanes;
  float sum = 0;
  if (slice.workers > 0) sum = Gradient::decode(*gradient_at<Gradient>(slice, 0, i));
  for (std::uint32_t w = 1; w < slice.workers; ++w)
    sum = add(sum, Gradient::decode(*gradient_at<Gradient>(slice, w, i)));
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
  if (slice.wire == nullptr) return;
  if (slice.wire_dtype == DType::kBfloat16)
    *wire_at<Bfloat16>(slice, i) = Bfloat16::encode(p);
  else if (slice.wire_dtype == DType::kFloat16)
    *wire_at<Float16>(slice, i) = Float16::encode(p);
  else
    *wire_at<Float32>(slice, i) = Float32::encode(p);
}

template <class Gradient, class Rule, class Context>
PENSTOCK_DEVICE void step_body(const Context& context, const SliceStep* slices,
                               std::uint32_t count) {
  const SliceStep& slice = find_slice(slices, count, context.block());
  const std::uint64_t begin = std::uint64_t{context.block() - slice.first_block} * kBlockElements +
                              context.thread() * kPerThread;
  if (begin >= slice.count) return;
  const Rule rule(slice.coefficients);
  if (slice.aligned && slice.count - begin >= kPerThread)
    return step_eight<Gradient>(rule, slice, begin);
  const std::uint64_t end = begin + kPerThread < slice.count ? begin + kPerThread : slice.count;
  for (std::uint64_t i = begin; i < end; ++i) step_one<Gradient>(rule, slice, i);
}

PENSTOCK_END_TARGET

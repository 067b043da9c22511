// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// norms.h over Highway vectors. Each pass goes in steps of sixteen elements, one for each of the
// sums that are kept apart; the last, shorter one is run on padded copies: zeros add nothing.

#if defined(PENSTOCK_KERNELS_CPU_NORMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_NORMS_INL_H
#undef PENSTOCK_KERNELS_CPU_NORMS_INL_H
#else
#define PENSTOCK_KERNELS_CPU_NORMS_INL_H
#endif

#include <algorithm>
#include <cstring>
#include <optional>

#include "kernels/cpu/codec_vector-inl.h"
#include "kernels/cpu/norms.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/math/norms-inl.h"
#include "kernels/math/optimizers-inl.h"
#include "kernels/table.h"

PENSTOCK_BEGIN_TARGET

extern const KernelTable kKernels;  // of this target, for its conversions

using Doubles = hn::ScalableTag<double>;
inline constexpr std::size_t kDoubles = HWY_LANES(double);
static_assert(kNormLanes % kDoubles == 0 && kNormLanes % kLanes == 0);
// Elements whose sum waits in the first-level cache while gradients are added.
inline constexpr std::size_t kNormChunk = 1024;
static_assert(kNormChunk % kNormLanes == 0 && kNormChunk % kSummedAtOnce == 0);

// The sums that are kept apart, in registers.
struct Squares {
  hn::Vec<Doubles> sums[kNormLanes / kDoubles];
  HWY_INLINE Squares() {
    for (auto& sum : sums) sum = hn::Zero(Doubles());
  }
  HWY_INLINE void add(const float* values) {
    const hn::Rebind<float, Doubles> halves;
    for (std::size_t i = 0; i < kNormLanes / kDoubles; ++i) {
      const auto value = hn::PromoteTo(Doubles(), hn::LoadU(halves, values + i * kDoubles));
      sums[i] = hn::MulAdd(value, value, sums[i]);  // the product is exact either way
    }
  }
  HWY_INLINE double total() const {
    alignas(64) double all[kNormLanes];
    for (std::size_t i = 0; i < kNormLanes / kDoubles; ++i)
      hn::StoreU(sums[i], Doubles(), all + i * kDoubles);
    return add_up(all);
  }
};

HWY_INLINE void add_to(float* sums, const float* values, std::size_t count) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    hn::StoreU(add(hn::LoadU(Floats(), sums + i), hn::LoadU(Floats(), values + i)), Floats(),
               sums + i);
  for (; i < count; ++i) sums[i] += values[i];
}

// One step: 16 sums are scaled and clipped, squares are added.
HWY_INLINE void finish_sums(float* sums, const float* parameters, Vector scale, Vector clip,
                            Squares& g2, Squares& p2) {
  for (std::size_t i = 0; i < kNormLanes; i += kLanes) {
    const Vector g = clipped(mul(hn::LoadU(Floats(), sums + i), scale), clip);
    hn::StoreU(canonical(g), Floats(), sums + i);
  }
  g2.add(sums);
  p2.add(parameters);
}

inline NormSums sum(const UpdateArgs& args, float clip, float* sums) {
  const void* present[kMaxWorkers];
  const std::uint32_t workers = present_gradients(Coefficients{}, args, present);
  const std::size_t element_bytes = dtype_bytes(args.gradient_dtype);
  std::optional<EncodedGradients> encoded;
  if (args.codec != nullptr) encoded.emplace(*args.codec, present, workers, args.count);
  alignas(64) float decoded[kNormChunk];
  const Vector scale = splat<Vector>(args.scale), bound = splat<Vector>(clip);
  Squares g2, p2;
  for (std::size_t begin = 0; begin < args.count; begin += kNormChunk) {
    const std::size_t count = std::min(kNormChunk, args.count - begin);
    float* const chunk = sums + begin;
    for (std::size_t at = 0; encoded && at < count; at += kSummedAtOnce)
      sum_encoded(*encoded, begin + at, begin + std::min(count, at + kSummedAtOnce), chunk + at);
    if (workers == 0) std::fill_n(chunk, count, 0.0F);
    for (std::uint32_t w = 0; !encoded && w < workers; ++w) {
      const char* const from = static_cast<const char*>(present[w]) + begin * element_bytes;
      float* const to = w == 0 ? chunk : decoded;
      kKernels.decode(from, args.gradient_dtype, to, count);
      if (w > 0) add_to(chunk, decoded, count);
    }
    std::size_t i = 0;
    for (; i + kNormLanes <= count; i += kNormLanes)
      finish_sums(chunk + i, args.parameters + begin + i, scale, bound, g2, p2);
    if (i == count) continue;
    float padded[kNormLanes] = {}, parameters[kNormLanes] = {};
    std::memcpy(padded, chunk + i, (count - i) * sizeof(float));
    std::memcpy(parameters, args.parameters + begin + i, (count - i) * sizeof(float));
    finish_sums(padded, parameters, scale, bound, g2, p2);
    std::memcpy(chunk + i, padded, (count - i) * sizeof(float));
  }
  return {g2.total(), p2.total()};
}

// The streams of one step of lamb.
struct LambStreams {
  const float* sums;
  float *parameters, *m, *v;
};

// Calls `step` for every sixteen elements and stores nothing beyond the last.
template <class Step>
HWY_INLINE void lamb_steps(const LambArgs& args, const Step& step) {
  std::size_t i = 0;
  for (; i + kNormLanes <= args.count; i += kNormLanes)
    step({args.sums + i, args.parameters + i, args.m + i, args.v + i});
  if (i == args.count) return;
  const std::size_t bytes = (args.count - i) * sizeof(float);
  float padded[4][kNormLanes] = {};
  float* const arrays[3] = {args.parameters, args.m, args.v};
  std::memcpy(padded[3], args.sums + i, bytes);
  for (int a = 0; a < 3; ++a) std::memcpy(padded[a], arrays[a] + i, bytes);
  step({padded[3], padded[0], padded[1], padded[2]});
  for (int a = 0; a < 3; ++a) std::memcpy(arrays[a] + i, padded[a], bytes);
}

inline NormSums lamb_moments(const LambCoefficients& coefficients, const LambArgs& args) {
  const LambDirection<Vector> direction(coefficients);
  const Vector scale = splat<Vector>(args.scale);
  Squares u2, p2;
  lamb_steps(args, [&](const LambStreams& at) HWY_ATTR {
    float u[kNormLanes];
    for (std::size_t i = 0; i < kNormLanes; i += kLanes) {
      Vector state[2] = {hn::LoadU(Floats(), at.m + i), hn::LoadU(Floats(), at.v + i)};
      direction.moments(mul(hn::LoadU(Floats(), at.sums + i), scale), state);
      hn::StoreU(canonical(state[0]), Floats(), at.m + i);
      hn::StoreU(canonical(state[1]), Floats(), at.v + i);
      const Vector p = hn::LoadU(Floats(), at.parameters + i);
      hn::StoreU(direction(p, state[0], state[1]), Floats(), u + i);
    }
    u2.add(u);
    p2.add(at.parameters);
  });
  return {u2.total(), p2.total()};
}

inline void lamb_apply(const LambCoefficients& coefficients, const LambArgs& args) {
  const LambDirection<Vector> direction(coefficients);
  const Vector rate = splat<Vector>(coefficients.rate);
  lamb_steps(args, [&](const LambStreams& at) HWY_ATTR {
    for (std::size_t i = 0; i < kNormLanes; i += kLanes) {
      const Vector p = hn::LoadU(Floats(), at.parameters + i);
      const Vector u = direction(p, hn::LoadU(Floats(), at.m + i), hn::LoadU(Floats(), at.v + i));
      hn::StoreU(canonical(fma(rate, u, p)), Floats(), at.parameters + i);
    }
  });
}

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/kernels/cpu_adam_shape.h"

#define HWY_TARGET_INCLUDE "bench/kernels/cpu_adam_shape.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace penstock::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// One group of eight registers at `i`.
template <class Floats>
HWY_INLINE void step_eight(Floats floats, const Coefficients& c, const CpuAdamArgs& args,
                           std::size_t i) {
  constexpr std::size_t kSpan = 8;
  using Vector = hn::Vec<Floats>;
  const auto load = [&](const float* from, Vector(&to)[kSpan]) HWY_ATTR {
    for (std::size_t j = 0; j < kSpan; ++j)
      to[j] = hn::LoadU(floats, from + i + j * hn::Lanes(floats));
  };
  const auto store = [&](const Vector(&from)[kSpan], float* to) HWY_ATTR {
    for (std::size_t j = 0; j < kSpan; ++j)
      hn::StoreU(from[j], floats, to + i + j * hn::Lanes(floats));
  };
  const auto set = [&](float value) HWY_ATTR { return hn::Set(floats, value); };
  Vector g[kSpan], m[kSpan], v[kSpan], p[kSpan];
  load(args.gradients, g);
  load(args.m, m);
  load(args.v, v);
  load(args.parameters, p);
  for (Vector& each : m) each = hn::Mul(each, set(c.beta1));
  for (std::size_t j = 0; j < kSpan; ++j) m[j] = hn::MulAdd(g[j], set(c.one_minus_beta1), m[j]);
  for (Vector& each : v) each = hn::Mul(each, set(c.beta2));
  for (Vector& each : g) each = hn::Mul(each, each);
  for (std::size_t j = 0; j < kSpan; ++j) v[j] = hn::MulAdd(g[j], set(c.one_minus_beta2), v[j]);
  for (std::size_t j = 0; j < kSpan; ++j) g[j] = hn::Sqrt(v[j]);
  for (Vector& each : g) each = hn::MulAdd(each, set(c.root_gain), set(c.epsilon));
  for (std::size_t j = 0; j < kSpan; ++j) g[j] = hn::Div(m[j], g[j]);
  for (Vector& each : p) each = hn::MulAdd(each, set(c.decay_gain), each);
  for (std::size_t j = 0; j < kSpan; ++j) p[j] = hn::MulAdd(g[j], set(c.step_gain), p[j]);
  store(p, args.parameters);
  store(m, args.m);
  store(v, args.v);
}

void cpu_adam(const Coefficients& coefficients, const CpuAdamArgs& args) {
  const hn::CappedTag<float, kCpuAdamElements / 8> floats;
  const Coefficients local = coefficients;  // so that no store can be thought to change it
  const CpuAdamArgs streams = args;
  for (std::size_t i = 0; i < streams.count; i += 8 * hn::Lanes(floats))
    step_eight(floats, local, streams, i);
}

}  // namespace penstock::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace penstock::bench {

HWY_EXPORT(cpu_adam);

void cpu_adam_shape(const Coefficients& coefficients, const CpuAdamArgs& args) {
  HWY_DYNAMIC_DISPATCH(cpu_adam)(coefficients, args);
}

}  // namespace penstock::bench
#endif

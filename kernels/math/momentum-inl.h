// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// assign, sgd, momentum and nesterov; see optimizers-inl.h.

#if defined(PENSTOCK_KERNELS_MATH_MOMENTUM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_MOMENTUM_INL_H
#undef PENSTOCK_KERNELS_MATH_MOMENTUM_INL_H
#else
#define PENSTOCK_KERNELS_MATH_MOMENTUM_INL_H
#endif

#include "kernels/coefficients.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

// p = g, whatever p was, a NaN too. Traffic: W·g + 4 + o; reads W·g.
template <class V>
struct Assign {
  static constexpr std::uint32_t kPlanes = 0;

  PENSTOCK_DEVICE explicit Assign(const Coefficients&) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V*) const { p = g; }
};

// p −= lr·(g + wd·p). Traffic: W·g + 8 + o; reads W·g + 4.
template <class V>
struct Sgd {
  static constexpr std::uint32_t kPlanes = 0;
  V l2, step_gain;

  PENSTOCK_DEVICE explicit Sgd(const Coefficients& c)
      : l2(splat<V>(c.l2)), step_gain(splat<V>(c.step_gain)) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V*) const {
    g = fma(l2, p, g);
    p = fma(step_gain, g, p);
  }
};

// v = μ·v + a·g; p += b·v, with (a, b) = (1, −lr) as PyTorch's SGD without dampening and Paddle's
// momentum, or (−lr, 1) as MXNet's sgd_mom_update. Traffic: W·g + 16 + o; reads W·g + 8.
template <class V>
struct Momentum {
  static constexpr std::uint32_t kPlanes = 1;
  V l2, step_gain, momentum, velocity_gain;

  PENSTOCK_DEVICE explicit Momentum(const Coefficients& c)
      : l2(splat<V>(c.l2)),
        step_gain(splat<V>(c.step_gain)),
        momentum(splat<V>(c.momentum)),
        velocity_gain(splat<V>(c.velocity_gain)) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    g = fma(l2, p, g);
    state[0] = fma(momentum, state[0], mul(velocity_gain, g));
    p = fma(step_gain, state[0], p);
  }
};

// v = μ·v + a·g; p += b·(μ·v + a·g), (a, b) as for Momentum: PyTorch's SGD(nesterov=True), MXNet's
// nag_mom_update. Traffic: W·g + 16 + o; reads W·g + 8.
template <class V>
struct Nesterov {
  static constexpr std::uint32_t kPlanes = 1;
  V l2, step_gain, momentum, velocity_gain;

  PENSTOCK_DEVICE explicit Nesterov(const Coefficients& c)
      : l2(splat<V>(c.l2)),
        step_gain(splat<V>(c.step_gain)),
        momentum(splat<V>(c.momentum)),
        velocity_gain(splat<V>(c.velocity_gain)) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    g = mul(velocity_gain, fma(l2, p, g));
    state[0] = fma(momentum, state[0], g);
    p = fma(step_gain, fma(momentum, state[0], g), p);
  }
};

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// ftrl and lion, whose steps go by a sign; see optimizers-inl.h.

#if defined(PENSTOCK_KERNELS_MATH_SIGN_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_SIGN_INL_H
#undef PENSTOCK_KERNELS_MATH_SIGN_INL_H
#else
#define PENSTOCK_KERNELS_MATH_SIGN_INL_H
#endif

#include "kernels/coefficients.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

// g += wd·p; n' = n + g²; z += g − (√n' − √n)/lr·p; n = n';
// p = |z| ≤ λ1 ? 0 : −(z − sign(z)·λ1)/(√n/lr + c), with c = β/lr + λ2 (McMahan et al. 2013,
// algorithm 1; MXNet) or c = 2·λ2 (MindSpore, Paddle). Traffic: W·g + 24 + o; reads W·g + 12.
template <class V>
struct Ftrl {
  static constexpr std::uint32_t kPlanes = 2;
  V l2, inverse_rate, lambda1, minus_offset;

  PENSTOCK_DEVICE explicit Ftrl(const Coefficients& c)
      : l2(splat<V>(c.l2)),
        inverse_rate(splat<V>(c.inverse_rate)),
        lambda1(splat<V>(c.lambda1)),
        minus_offset(splat<V>(c.minus_offset)) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    g = fma(l2, p, g);
    const V before = root(state[0]);
    state[0] = fma(g, g, state[0]);
    const V after = root(state[0]);
    state[1] = fnma(mul(sub(after, before), inverse_rate), p, add(state[1], g));
    const V beyond = sub(magnitude(state[1]), lambda1);
    const V step = div(copy_sign(beyond, state[1]), fnma(inverse_rate, after, minus_offset));
    p = where_at_most_zero(beyond, splat<V>(0), step);
  }
};

// p −= lr·(sign(β1·m + (1−β1)·g) + wd·p); m = β2·m + (1−β2)·g. Chen et al. 2023, algorithm 2; the
// sign of 0 is 0. Traffic: W·g + 16 + o; reads W·g + 8.
template <class V>
struct Lion {
  static constexpr std::uint32_t kPlanes = 1;
  V decay_gain, step_gain, beta1, one_minus_beta1, beta2, one_minus_beta2;

  PENSTOCK_DEVICE explicit Lion(const Coefficients& c)
      : decay_gain(splat<V>(c.decay_gain)),
        step_gain(splat<V>(c.step_gain)),
        beta1(splat<V>(c.beta1)),
        one_minus_beta1(splat<V>(c.one_minus_beta1)),
        beta2(splat<V>(c.beta2)),
        one_minus_beta2(splat<V>(c.one_minus_beta2)) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    const V direction = fma(beta1, state[0], mul(one_minus_beta1, g));
    const V size = magnitude(direction);
    V sign = where_at_most_zero(size, size, copy_sign(splat<V>(1), direction));
    sign = where_at_most_zero(sub(splat<V>(0), size), sign, direction);  // NaN stays NaN
    state[0] = fma(beta2, state[0], mul(one_minus_beta2, g));
    p = add(p, fma(step_gain, sign, mul(decay_gain, p)));
  }
};

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// adagrad, decayed_adagrad and the four kinds of rmsprop: a rate for each element from the average
// of its squared gradients; see optimizers-inl.h.

#if defined(PENSTOCK_KERNELS_MATH_ADAPTIVE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_ADAPTIVE_INL_H
#undef PENSTOCK_KERNELS_MATH_ADAPTIVE_INL_H
#else
#define PENSTOCK_KERNELS_MATH_ADAPTIVE_INL_H
#endif

#include "kernels/coefficients.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

// g += wd·p; s = α·s + β·g²; d = s, or the variance s − a² with a = α·a + β·g when centred;
// r = g/(√(d + ε₁) + ε₂); p −= lr·r, or with momentum q = μ·q + a·r, p += b·q as for Momentum.
//   adagrad          α = β = 1            Duchi, Hazan & Singer 2011; ε outside: PyTorch, Paddle,
//   MXNet decayed_adagrad  α = ρ, β = 1−ρ       Paddle rmsprop          α = ρ, β = 1−ρ Tieleman &
//   Hinton 2012; ε outside the root: PyTorch, MXNet;
//                                         inside: Paddle, MXNet's centred form
// Rounding can make s − a² a little negative: it counts as 0 then.
// Traffic: W·g + 16 + o, 8 more for each of the centred form and momentum; reads half of the 8s.
template <class V, bool kCentred, bool kWithMomentum>
struct Adaptive {
  static constexpr std::uint32_t kPlanes = 1 + (kCentred ? 1 : 0) + (kWithMomentum ? 1 : 0);
  V l2, step_gain, momentum, velocity_gain, keep, gain, epsilon, inner_epsilon;

  PENSTOCK_DEVICE explicit Adaptive(const Coefficients& c)
      : l2(splat<V>(c.l2)),
        step_gain(splat<V>(c.step_gain)),
        momentum(splat<V>(c.momentum)),
        velocity_gain(splat<V>(c.velocity_gain)),
        keep(splat<V>(c.beta2)),
        gain(splat<V>(c.one_minus_beta2)),
        epsilon(splat<V>(c.epsilon)),
        inner_epsilon(splat<V>(c.inner_epsilon)) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    g = fma(l2, p, g);
    state[0] = fma(keep, state[0], mul(mul(gain, g), g));
    V square = state[0];
    if constexpr (kCentred) {
      state[1] = fma(keep, state[1], mul(gain, g));
      square = larger(splat<V>(0), fnma(state[1], state[1], square));
    }
    const V ratio = div(g, add(root(add(square, inner_epsilon)), epsilon));
    if constexpr (kWithMomentum) {
      V& velocity = state[kPlanes - 1];
      velocity = fma(momentum, velocity, mul(velocity_gain, ratio));
      p = fma(step_gain, velocity, p);
    } else {
      p = fma(step_gain, ratio, p);
    }
  }
};

PENSTOCK_END_TARGET

#endif

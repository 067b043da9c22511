// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// adam, adamw and adamax; see optimizers-inl.h.

#if defined(PENSTOCK_KERNELS_MATH_ADAM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_ADAM_INL_H
#undef PENSTOCK_KERNELS_MATH_ADAM_INL_H
#else
#define PENSTOCK_KERNELS_MATH_ADAM_INL_H
#endif

#include "kernels/coefficients.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

// m = β1·m + (1−β1)·g; v = β2·v + (1−β2)·g²; the result is m / (root_gain·√v + ε).
// Kingma & Ba 2015, algorithm 1; bias corrections are folded into root_gain and step_gain, which
// hold either form of EpsilonForm.
template <class V>
struct AdamMoments {
  V beta1, one_minus_beta1, beta2, one_minus_beta2, root_gain, epsilon;

  PENSTOCK_DEVICE explicit AdamMoments(const Coefficients& c)
      : beta1(splat<V>(c.beta1)),
        one_minus_beta1(splat<V>(c.one_minus_beta1)),
        beta2(splat<V>(c.beta2)),
        one_minus_beta2(splat<V>(c.one_minus_beta2)),
        root_gain(splat<V>(c.root_gain)),
        epsilon(splat<V>(c.epsilon)) {}

  PENSTOCK_DEVICE V operator()(V g, V* state) const {
    state[0] = fma(beta1, state[0], mul(one_minus_beta1, g));
    state[1] = fma(beta2, state[1], mul(mul(one_minus_beta2, g), g));
    return div(state[0], fma(root_gain, root(state[1]), epsilon));
  }
};

// g += wd·p; p −= s·m/(c·√v + ε). Traffic: W·g + 24 + o; reads W·g + 12.
template <class V>
struct Adam {
  static constexpr std::uint32_t kPlanes = 2;
  V l2, step_gain;
  AdamMoments<V> moments;

  PENSTOCK_DEVICE explicit Adam(const Coefficients& c)
      : l2(splat<V>(c.l2)), step_gain(splat<V>(c.step_gain)), moments(c) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    p = fma(step_gain, moments(fma(l2, p, g), state), p);
  }
};

// p −= s·m/(c·√v + ε) + lr·wd·p. Loshchilov & Hutter 2019, algorithm 2, with the decay taken as in
// PyTorch (lr·wd). The two steps are added before they meet p: 1 − lr·wd as a float would lose
// most digits of a small decay. Traffic: W·g + 24 + o; reads W·g + 12.
template <class V>
struct AdamW {
  static constexpr std::uint32_t kPlanes = 2;
  V decay_gain, step_gain;
  AdamMoments<V> moments;

  PENSTOCK_DEVICE explicit AdamW(const Coefficients& c)
      : decay_gain(splat<V>(c.decay_gain)), step_gain(splat<V>(c.step_gain)), moments(c) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    p = add(p, fma(step_gain, moments(g, state), mul(decay_gain, p)));
  }
};

// g += wd·p; m = β1·m + (1−β1)·g; u = max(β2·u + a, |g| + b); p −= lr/(1−β1ᵗ)·m/u. Kingma & Ba
// 2015, algorithm 2, with ε as b (PyTorch) or as a (Paddle). Traffic: W·g + 24 + o; reads W·g + 12.
template <class V>
struct AdaMax {
  static constexpr std::uint32_t kPlanes = 2;
  V l2, step_gain, beta1, one_minus_beta1, beta2, epsilon, inner_epsilon;

  PENSTOCK_DEVICE explicit AdaMax(const Coefficients& c)
      : l2(splat<V>(c.l2)),
        step_gain(splat<V>(c.step_gain)),
        beta1(splat<V>(c.beta1)),
        one_minus_beta1(splat<V>(c.one_minus_beta1)),
        beta2(splat<V>(c.beta2)),
        epsilon(splat<V>(c.epsilon)),
        inner_epsilon(splat<V>(c.inner_epsilon)) {}

  PENSTOCK_DEVICE void operator()(V& p, V g, V* state) const {
    g = fma(l2, p, g);
    state[0] = fma(beta1, state[0], mul(one_minus_beta1, g));
    state[1] = larger(fma(beta2, state[1], inner_epsilon), add(magnitude(g), epsilon));
    p = fma(step_gain, div(state[0], state[1]), p);
  }
};

PENSTOCK_END_TARGET

#endif

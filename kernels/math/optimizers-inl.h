// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The optimizers, each written once over a value type V (a float or a vector of floats) with the
// vocabulary splat, add, mul, div, fma and root, which the includer defines in the same target
// namespace before this header. Every operation rounds once, as IEEE 754 says; nothing may be
// reordered or contracted, so all targets give equal bits.
//
// A rule has kPlanes, the number of its state planes, a constructor that spreads the coefficients,
// and operator()(p, g, state): new parameters and state in place, g is the scaled sum. Traffic per
// element is W·g + 8 + 8·kPlanes + o bytes, of which W·g + 4 + 4·kPlanes are reads.

#if defined(PENSTOCK_KERNELS_MATH_OPTIMIZERS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_OPTIMIZERS_INL_H
#undef PENSTOCK_KERNELS_MATH_OPTIMIZERS_INL_H
#else
#define PENSTOCK_KERNELS_MATH_OPTIMIZERS_INL_H
#endif

#include "kernels/math/target-inl.h"
#include "kernels/optimizer.h"

PENSTOCK_BEGIN_TARGET

// p −= lr·(g + wd·p). Traffic: W·g + 8 + o; reads W·g + 4.
template <class V>
struct Sgd {
  static constexpr std::uint32_t kPlanes = 0;
  V l2, step_gain;

  explicit Sgd(const Coefficients& c) : l2(splat<V>(c.l2)), step_gain(splat<V>(c.step_gain)) {}

  void operator()(V& p, V g, V*) const {
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

  explicit Momentum(const Coefficients& c)
      : l2(splat<V>(c.l2)),
        step_gain(splat<V>(c.step_gain)),
        momentum(splat<V>(c.momentum)),
        velocity_gain(splat<V>(c.velocity_gain)) {}

  void operator()(V& p, V g, V* state) const {
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

  explicit Nesterov(const Coefficients& c)
      : l2(splat<V>(c.l2)),
        step_gain(splat<V>(c.step_gain)),
        momentum(splat<V>(c.momentum)),
        velocity_gain(splat<V>(c.velocity_gain)) {}

  void operator()(V& p, V g, V* state) const {
    g = mul(velocity_gain, fma(l2, p, g));
    state[0] = fma(momentum, state[0], g);
    p = fma(step_gain, fma(momentum, state[0], g), p);
  }
};

// m = β1·m + (1−β1)·g; v = β2·v + (1−β2)·g²; the result is m / (root_gain·√v + ε).
// Kingma & Ba 2015, algorithm 1; bias corrections are folded into root_gain and step_gain, which
// hold either form of EpsilonForm.
template <class V>
struct AdamMoments {
  V beta1, one_minus_beta1, beta2, one_minus_beta2, root_gain, epsilon;

  explicit AdamMoments(const Coefficients& c)
      : beta1(splat<V>(c.beta1)),
        one_minus_beta1(splat<V>(c.one_minus_beta1)),
        beta2(splat<V>(c.beta2)),
        one_minus_beta2(splat<V>(c.one_minus_beta2)),
        root_gain(splat<V>(c.root_gain)),
        epsilon(splat<V>(c.epsilon)) {}

  V operator()(V g, V* state) const {
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

  explicit Adam(const Coefficients& c)
      : l2(splat<V>(c.l2)), step_gain(splat<V>(c.step_gain)), moments(c) {}

  void operator()(V& p, V g, V* state) const {
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

  explicit AdamW(const Coefficients& c)
      : decay_gain(splat<V>(c.decay_gain)), step_gain(splat<V>(c.step_gain)), moments(c) {}

  void operator()(V& p, V g, V* state) const {
    p = add(p, fma(step_gain, moments(g, state), mul(decay_gain, p)));
  }
};

// Calls `visit` with the rule of `kind`, made from `coefficients`.
template <class V, class Visitor>
void with_rule(OptimizerKind kind, const Coefficients& coefficients, const Visitor& visit) {
  switch (kind) {
    case OptimizerKind::kSgd:
      return visit(Sgd<V>(coefficients));
    case OptimizerKind::kMomentum:
      return visit(Momentum<V>(coefficients));
    case OptimizerKind::kNesterov:
      return visit(Nesterov<V>(coefficients));
    case OptimizerKind::kAdam:
      return visit(Adam<V>(coefficients));
    case OptimizerKind::kAdamW:
      return visit(AdamW<V>(coefficients));
  }
}

PENSTOCK_END_TARGET

#endif

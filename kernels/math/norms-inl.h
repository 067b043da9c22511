// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// lamb's direction; vocabulary as in optimizers-inl.h.

#if defined(PENSTOCK_KERNELS_MATH_NORMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_NORMS_INL_H
#undef PENSTOCK_KERNELS_MATH_NORMS_INL_H
#else
#define PENSTOCK_KERNELS_MATH_NORMS_INL_H
#endif

#include "kernels/math/adam-inl.h"
#include "kernels/norms.h"

PENSTOCK_BEGIN_TARGET

// u = m̂/(√v̂ + ε) + wd·p. You et al. 2020, algorithm 2.
template <class V>
struct LambDirection {
  AdamMoments<V> moments;
  V moment_gain, weight_decay;

  PENSTOCK_DEVICE explicit LambDirection(const LambCoefficients& c)
      : moments(c.moments),
        moment_gain(splat<V>(c.moment_gain)),
        weight_decay(splat<V>(c.weight_decay)) {}

  // From moments that are up to date.
  PENSTOCK_DEVICE V operator()(V p, V m, V v) const {
    const V ratio = div(m, fma(moments.root_gain, root(v), moments.epsilon));
    return fma(moment_gain, ratio, mul(weight_decay, p));
  }
};

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What may happen to the scaled sum g before any rule sees it; vocabulary as in optimizers-inl.h.
// The drivers leave out what a slice does not have, so that it costs nothing.

#if defined(PENSTOCK_KERNELS_MATH_PROLOGUE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_PROLOGUE_INL_H
#undef PENSTOCK_KERNELS_MATH_PROLOGUE_INL_H
#else
#define PENSTOCK_KERNELS_MATH_PROLOGUE_INL_H
#endif

#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

// ±bound where g is beyond it; NaN stays NaN.
template <class V>
PENSTOCK_DEVICE inline V clipped(V g, V bound) {
  return where_at_most_zero(sub(bound, magnitude(g)), copy_sign(bound, g), g);
}

// g + λ·g²·(p − seen): what the gradient would be at p rather than at `seen`, by the diagonal g² of
// an approximate Hessian. Zheng et al. 2017, equation 5. In this order g² alone cannot overflow.
template <class V>
PENSTOCK_DEVICE inline V compensated(V g, V p, V seen, V lambda) {
  return fma(mul(mul(lambda, sub(p, seen)), g), g, g);
}

// g + l1·sign(p), the subgradient of l1·|p| with sign(0) = 0.
template <class V>
PENSTOCK_DEVICE inline V penalized(V g, V p, V l1) {
  return add(g, where_at_most_zero(magnitude(p), splat<V>(0), copy_sign(l1, p)));
}

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The optimizers, each written once over a value type V (a float or a vector of floats), with this
// vocabulary, which the includer defines in the same target namespace before this header:
//   splat add sub mul div root     as named; root is the square root
//   fma(a, b, c), fnma(a, b, c)    c + a·b and c − a·b, rounded once
//   magnitude(a), copy_sign(a, b)  |a|; |a| with the sign of b
//   larger(a, b)                   a > b ? a : b, so b when either is NaN
//   where_at_most_zero(a, b, c)    a ≤ 0 ? b : c, so c when a is NaN
// Every operation rounds once, as IEEE 754 says; nothing may be reordered or contracted, so all
// targets give equal bits.
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

#include "kernels/coefficients.h"
#include "kernels/math/adam-inl.h"
#include "kernels/math/adaptive-inl.h"
#include "kernels/math/momentum-inl.h"
#include "kernels/math/prologue-inl.h"
#include "kernels/math/sign-inl.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

// Calls `visit` with the rule the coefficients were folded for.
template <class V, class Visitor>
void with_rule(const Coefficients& c, const Visitor& visit) {
  switch (c.rule) {
    case UpdateRule::kSgd:
      return visit(Sgd<V>(c));
    case UpdateRule::kMomentum:
      return visit(Momentum<V>(c));
    case UpdateRule::kNesterov:
      return visit(Nesterov<V>(c));
    case UpdateRule::kAdam:
      return visit(Adam<V>(c));
    case UpdateRule::kAdamW:
      return visit(AdamW<V>(c));
    case UpdateRule::kAdaMax:
      return visit(AdaMax<V>(c));
    case UpdateRule::kAdaptive:
      return visit(Adaptive<V, false, false>(c));
    case UpdateRule::kAdaptiveMomentum:
      return visit(Adaptive<V, false, true>(c));
    case UpdateRule::kCentred:
      return visit(Adaptive<V, true, false>(c));
    case UpdateRule::kCentredMomentum:
      return visit(Adaptive<V, true, true>(c));
    case UpdateRule::kFtrl:
      return visit(Ftrl<V>(c));
    case UpdateRule::kLion:
      return visit(Lion<V>(c));
    case UpdateRule::kAssign:
      return visit(Assign<V>(c));
  }
}

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The rules for rows of sparse tables, over the vocabulary of optimizers-inl.h. A row rule has
//   kPlanes, kScalars     state planes of one float an element and of one float a row
//   kMeans                what open() needs: 0 nothing, 1 the mean of g² over the row, 2 and of g
//   gradient(p, g)        the g that the means are of
//   open(means, scalars)  once a row: new scalars in place; returns what the elements share
//   operator()(p, g, state, row)  once an element: new parameter and state in place
// The mean is summed in kSums partial sums, element i into number i mod kSums by increasing i, then
// halves are added (j and j + 8, j + 4, j + 2, j + 1) and divided by the width: one order
// everywhere.

#if defined(PENSTOCK_KERNELS_MATH_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_MATH_ROWS_INL_H
#undef PENSTOCK_KERNELS_MATH_ROWS_INL_H
#else
#define PENSTOCK_KERNELS_MATH_ROWS_INL_H
#endif

#include "kernels/math/optimizers-inl.h"
#include "kernels/row_coefficients.h"

PENSTOCK_BEGIN_TARGET

inline constexpr std::uint32_t kSums = 16;

// A rule of optimizers-inl.h on each element of the row.
template <class V, class Rule>
struct EachElement {
  static constexpr std::uint32_t kPlanes = Rule::kPlanes, kScalars = 0, kMeans = 0;
  struct Row {};
  Rule rule;

  PENSTOCK_DEVICE explicit EachElement(const RowCoefficients& c) : rule(c.elements) {}

  PENSTOCK_DEVICE V gradient(V, V g) const { return g; }
  PENSTOCK_DEVICE Row open(const V*, V*) const { return {}; }
  PENSTOCK_DEVICE void operator()(V& p, V g, V* state, const Row&) const { rule(p, g, state); }
};

// m, v as adam's; the step is taken along β1·m + (1−β1)·g with the new m. MindSpore's SparseAdam
// and LazyAdam with use_nesterov.
template <class V>
struct NesterovAdam {
  static constexpr std::uint32_t kPlanes = 2, kScalars = 0, kMeans = 0;
  struct Row {};
  V l2, step_gain;
  AdamMoments<V> moments;

  PENSTOCK_DEVICE explicit NesterovAdam(const RowCoefficients& c)
      : l2(splat<V>(c.elements.l2)),
        step_gain(splat<V>(c.elements.step_gain)),
        moments(c.elements) {}

  PENSTOCK_DEVICE V gradient(V, V g) const { return g; }
  PENSTOCK_DEVICE Row open(const V*, V*) const { return {}; }
  PENSTOCK_DEVICE void operator()(V& p, V g, V* state, const Row&) const {
    g = fma(l2, p, g);
    const AdamMoments<V>& c = moments;
    const V part = mul(c.one_minus_beta1, g);
    state[0] = fma(c.beta1, state[0], part);
    state[1] = fma(c.beta2, state[1], mul(mul(c.one_minus_beta2, g), g));
    const V direction = fma(c.beta1, state[0], part);
    p = fma(step_gain, div(direction, fma(c.root_gain, root(state[1]), c.epsilon)), p);
  }
};

// p −= lr·g·√(G0/(G0 + G)); G += g², of each element or as the row's mean. Paddle's brpc tables.
template <class V, bool kOneARow>
struct PaddleAdaGrad {
  static constexpr std::uint32_t kPlanes = kOneARow ? 0 : 1, kScalars = kOneARow ? 1 : 0,
                                 kMeans = kScalars;
  struct Row {
    V gain;
  };
  V l2, step_gain, initial_square;

  PENSTOCK_DEVICE explicit PaddleAdaGrad(const RowCoefficients& c)
      : l2(splat<V>(c.elements.l2)),
        step_gain(splat<V>(c.elements.step_gain)),
        initial_square(splat<V>(c.initial_square)) {}

  PENSTOCK_DEVICE V gain(V square) const {
    return mul(step_gain, root(div(initial_square, add(initial_square, square))));
  }
  PENSTOCK_DEVICE V gradient(V p, V g) const { return fma(l2, p, g); }
  PENSTOCK_DEVICE Row open(const V* means, V* scalars) const {
    Row row = {step_gain};
    if constexpr (kOneARow) {
      row.gain = gain(scalars[0]);
      scalars[0] = add(scalars[0], means[0]);
    }
    return row;
  }
  PENSTOCK_DEVICE void operator()(V& p, V g, V* state, const Row& row) const {
    g = gradient(p, g);
    if constexpr (kOneARow) {
      p = fma(row.gain, g, p);
    } else {
      p = fma(gain(state[0]), g, p);
      state[0] = fma(g, g, state[0]);
    }
  }
};

// s += mean of g²; p −= lr/(√s + ε)·g, or √(s + ε). FBGEMM's exact_row_wise_adagrad, TorchRec.
template <class V>
struct RowAdaGrad {
  static constexpr std::uint32_t kPlanes = 0, kScalars = 1, kMeans = 1;
  struct Row {
    V gain;
  };
  V l2, step_gain, epsilon, inner_epsilon;

  PENSTOCK_DEVICE explicit RowAdaGrad(const RowCoefficients& c)
      : l2(splat<V>(c.elements.l2)),
        step_gain(splat<V>(c.elements.step_gain)),
        epsilon(splat<V>(c.elements.epsilon)),
        inner_epsilon(splat<V>(c.elements.inner_epsilon)) {}

  PENSTOCK_DEVICE V gradient(V p, V g) const { return fma(l2, p, g); }
  PENSTOCK_DEVICE Row open(const V* means, V* scalars) const {
    scalars[0] = add(scalars[0], means[0]);
    return {div(step_gain, add(root(add(scalars[0], inner_epsilon)), epsilon))};
  }
  PENSTOCK_DEVICE void operator()(V& p, V g, V*, const Row& row) const {
    p = fma(row.gain, gradient(p, g), p);
  }
};

// v = β2·v + (1−β2)·mean of g²; m as adam's; p −= s/(c·√v + ε)·m. FBGEMM's partial_row_wise_adam.
template <class V>
struct RowAdam {
  static constexpr std::uint32_t kPlanes = 1, kScalars = 1, kMeans = 1;
  struct Row {
    V gain;
  };
  V l2, step_gain, beta1, one_minus_beta1, beta2, one_minus_beta2, root_gain, epsilon;

  PENSTOCK_DEVICE explicit RowAdam(const RowCoefficients& c)
      : l2(splat<V>(c.elements.l2)),
        step_gain(splat<V>(c.elements.step_gain)),
        beta1(splat<V>(c.elements.beta1)),
        one_minus_beta1(splat<V>(c.elements.one_minus_beta1)),
        beta2(splat<V>(c.elements.beta2)),
        one_minus_beta2(splat<V>(c.elements.one_minus_beta2)),
        root_gain(splat<V>(c.elements.root_gain)),
        epsilon(splat<V>(c.elements.epsilon)) {}

  PENSTOCK_DEVICE V gradient(V p, V g) const { return fma(l2, p, g); }
  PENSTOCK_DEVICE Row open(const V* means, V* scalars) const {
    scalars[0] = fma(beta2, scalars[0], mul(one_minus_beta2, means[0]));
    return {div(step_gain, fma(root_gain, root(scalars[0]), epsilon))};
  }
  PENSTOCK_DEVICE void operator()(V& p, V g, V* state, const Row& row) const {
    state[0] = fma(beta1, state[0], mul(one_minus_beta1, gradient(p, g)));
    p = fma(row.gain, state[0], p);
  }
};

// adam with the row's own powers of β, which start at β and are multiplied after the step:
// p −= lr·√(1−B2)/(1−B1) · m/(√v + ε). kShared keeps one m and one v a row: each element makes its
// own from them, and their means are kept. Paddle's brpc tables, adam and shared_adam.
template <class V, bool kShared>
struct PaddleAdam {
  static constexpr std::uint32_t kPlanes = kShared ? 0 : 2, kScalars = kShared ? 4 : 2,
                                 kMeans = kShared ? 2 : 0;
  struct Row {
    V rate, m, v;  // m, v: before this step, where shared
  };
  V l2, step_gain, beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon;

  PENSTOCK_DEVICE explicit PaddleAdam(const RowCoefficients& c)
      : l2(splat<V>(c.elements.l2)),
        step_gain(splat<V>(c.elements.step_gain)),
        beta1(splat<V>(c.elements.beta1)),
        one_minus_beta1(splat<V>(c.elements.one_minus_beta1)),
        beta2(splat<V>(c.elements.beta2)),
        one_minus_beta2(splat<V>(c.elements.one_minus_beta2)),
        epsilon(splat<V>(c.elements.epsilon)) {}

  PENSTOCK_DEVICE V first(V m, V g) const { return fma(beta1, m, mul(one_minus_beta1, g)); }
  PENSTOCK_DEVICE V gradient(V p, V g) const { return fma(l2, p, g); }
  PENSTOCK_DEVICE Row open(const V* means, V* scalars) const {
    V* powers = scalars + kScalars - 2;
    const V one = splat<V>(1);
    Row row = {mul(step_gain, div(root(sub(one, powers[1])), sub(one, powers[0]))), one, one};
    powers[0] = mul(powers[0], beta1);
    powers[1] = mul(powers[1], beta2);
    if constexpr (kShared) {
      row.m = scalars[0];
      row.v = scalars[1];
      scalars[0] = first(row.m, means[1]);
      scalars[1] = fma(beta2, row.v, mul(one_minus_beta2, means[0]));
    }
    return row;
  }
  PENSTOCK_DEVICE void operator()(V& p, V g, V* state, const Row& row) const {
    g = gradient(p, g);
    const V m = first(kShared ? row.m : state[0], g);
    const V v = fma(beta2, kShared ? row.v : state[1], mul(mul(one_minus_beta2, g), g));
    p = fma(row.rate, div(m, add(root(v), epsilon)), p);
    if constexpr (!kShared) {
      state[0] = m;
      state[1] = v;
    }
  }
};

// Within [lower, upper]; NaN stays NaN.
template <class V>
PENSTOCK_DEVICE inline V bounded(V p, V lower, V upper) {
  p = where_at_most_zero(sub(p, lower), lower, p);
  return where_at_most_zero(sub(upper, p), upper, p);
}

// Hands a dense rule on to `visit` as a row rule.
template <class V, class Visitor>
struct EachElementVisitor {
  const RowCoefficients& c;
  const Visitor& visit;
  template <class Rule>
  void operator()(const Rule&) const {
    visit(EachElement<V, Rule>(c));
  }
};

// Calls `visit` with the row rule the coefficients were folded for.
template <class V, class Visitor>
void with_row_rule(const RowCoefficients& c, const Visitor& visit) {
  switch (c.rule) {
    case RowRule::kElements:
      return with_rule<V>(c.elements, EachElementVisitor<V, Visitor>{c, visit});
    case RowRule::kNesterovAdam:
      return visit(NesterovAdam<V>(c));
    case RowRule::kPaddleStdAdaGrad:
      return visit(PaddleAdaGrad<V, false>(c));
    case RowRule::kRowAdaGrad:
      return visit(RowAdaGrad<V>(c));
    case RowRule::kPaddleAdaGrad:
      return visit(PaddleAdaGrad<V, true>(c));
    case RowRule::kRowAdam:
      return visit(RowAdam<V>(c));
    case RowRule::kPaddleAdam:
      return visit(PaddleAdam<V, false>(c));
    case RowRule::kPaddleSharedAdam:
      return visit(PaddleAdam<V, true>(c));
  }
}

PENSTOCK_END_TARGET

#endif

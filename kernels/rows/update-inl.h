// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The step of a table's rows over Highway vectors. Touched rows lie anywhere: a core that waits for
// each would do nothing else, so the cache lines of a row are asked for some rows ahead.

#if defined(PENSTOCK_KERNELS_ROWS_UPDATE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_ROWS_UPDATE_INL_H
#undef PENSTOCK_KERNELS_ROWS_UPDATE_INL_H
#else
#define PENSTOCK_KERNELS_ROWS_UPDATE_INL_H
#endif

#include <algorithm>

#include "kernels/math/rows-inl.h"
#include "kernels/rows/check_rows.h"
#include "kernels/rows/partial-inl.h"

PENSTOCK_BEGIN_TARGET

inline constexpr std::size_t kRowsAhead = 16;        // 8 … 32 measure alike
inline constexpr std::size_t kLineFloats = 16;       // of a cache line
inline constexpr std::size_t kPrefetchFloats = 128;  // of a row; hardware follows longer ones
inline constexpr std::size_t kSumVectors = kSums / kLanes;
static_assert(kSums % kLanes == 0);

// Where one row is. gradient: nullptr is +0 everywhere.
struct RowArrays {
  float* parameters;
  float* planes[kMaxRowPlanes];
  const float* gradient;
};

template <class Rule>
HWY_INLINE RowArrays arrays_of(const RowTable& table, std::uint64_t row, const float* gradient) {
  RowArrays arrays;
  arrays.parameters = table.parameters.data + row * table.parameters.stride;
  for (std::uint32_t s = 0; s < Rule::kPlanes + Rule::kScalars; ++s)
    arrays.planes[s] = table.state[s].data + row * table.state[s].stride;
  arrays.gradient = gradient;
  return arrays;
}

template <class Rule>
HWY_INLINE void prefetch_row(const RowTable& table, std::uint64_t row) {
  const RowArrays arrays = arrays_of<Rule>(table, row, nullptr);
  const std::size_t width = std::min(table.width, kPrefetchFloats);
  for (std::size_t i = 0; i < width; i += kLineFloats) {
    __builtin_prefetch(arrays.parameters + i, 1, 3);
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s)
      __builtin_prefetch(arrays.planes[s] + i, 1, 3);
  }
  for (std::uint32_t k = 0; k < Rule::kScalars; ++k)
    __builtin_prefetch(arrays.planes[Rule::kPlanes + k], 1, 3);
}

// One call's rule and numbers.
template <class RuleType>
struct RowStep {
  using Rule = RuleType;
  Rule rule;
  Vector scale, clip, lower, upper;
  bool clips, bounds;

  RowStep(const Rule& r, const RowCoefficients& c, float factor)
      : rule(r),
        scale(splat<Vector>(factor)),
        clip(splat<Vector>(c.elements.clip)),
        lower(splat<Vector>(c.lower)),
        upper(splat<Vector>(c.upper)),
        clips(c.elements.clip != kNoClip),
        bounds(c.lower != -kNoBound || c.upper != kNoBound) {}

  template <class Lanes>
  HWY_INLINE Vector gradient(const RowArrays& arrays, std::size_t i, const Lanes& lanes) const {
    const Vector raw =
        arrays.gradient == nullptr ? hn::Zero(Floats()) : lanes.load(arrays.gradient + i);
    const Vector g = mul(raw, scale);
    return clips ? clipped(g, clip) : g;
  }

  // The partial sums of one vector, the one at element i.
  template <class Lanes>
  HWY_INLINE void add_squares(const RowArrays& arrays, std::size_t i, const Lanes& lanes,
                              Vector& squares, Vector& plain) const {
    Vector g = rule.gradient(lanes.load(arrays.parameters + i), gradient(arrays, i, lanes));
    g = lanes.only(g);
    squares = fma(g, g, squares);
    if constexpr (Rule::kMeans > 1) plain = add(plain, g);
  }

  template <class Lanes>
  HWY_INLINE void step(const RowArrays& arrays, const typename Rule::Row& row, std::size_t i,
                       const Lanes& lanes) const {
    Vector state[Rule::kPlanes + 1];
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) state[s] = lanes.load(arrays.planes[s] + i);
    Vector p = lanes.load(arrays.parameters + i);
    rule(p, gradient(arrays, i, lanes), state, row);
    if (bounds) p = bounded(p, lower, upper);
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s)
      lanes.store(canonical(state[s]), arrays.planes[s] + i);
    lanes.store(canonical(p), arrays.parameters + i);
  }
};

// See math/rows-inl.h for the order.
HWY_INLINE Vector mean_of(const Vector (&partial)[kSumVectors], std::size_t width) {
  alignas(64) float sums[kSums];
  for (std::size_t v = 0; v < kSumVectors; ++v) Float32::store(partial[v], sums + v * kLanes);
  for (std::size_t half = kSums / 2; half > 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return splat<Vector>(sums[0] / static_cast<float>(width));
}

template <class Step>
HWY_INLINE typename Step::Rule::Row open_row(const Step& step, const RowArrays& arrays,
                                             std::size_t width) {
  using Rule = typename Step::Rule;
  Vector means[2] = {hn::Zero(Floats()), hn::Zero(Floats())};
  if constexpr (Rule::kMeans > 0) {
    Vector squares[kSumVectors], plain[kSumVectors];
    for (Vector& zero : squares) zero = hn::Zero(Floats());
    for (Vector& zero : plain) zero = hn::Zero(Floats());
    for (std::size_t begin = 0; begin < width; begin += kSums)
      for (std::size_t v = 0; v < kSumVectors; ++v) {
        const std::size_t i = begin + v * kLanes;
        if (i + kLanes <= width)
          step.add_squares(arrays, i, AllLanes(), squares[v], plain[v]);
        else if (i < width)
          step.add_squares(arrays, i, FirstLanes(width - i), squares[v], plain[v]);
      }
    means[0] = mean_of(squares, width);
    if constexpr (Rule::kMeans > 1) means[1] = mean_of(plain, width);
  }
  Vector scalars[Rule::kScalars + 1];
  float* const* planes = arrays.planes + Rule::kPlanes;
  for (std::uint32_t k = 0; k < Rule::kScalars; ++k) scalars[k] = splat<Vector>(*planes[k]);
  const typename Rule::Row row = step.rule.open(means, scalars);
  for (std::uint32_t k = 0; k < Rule::kScalars; ++k)
    *planes[k] = hn::GetLane(canonical(scalars[k]));
  return row;
}

template <class Step>
HWY_INLINE void step_row(const Step& step, const RowArrays& arrays, std::size_t width) {
  const typename Step::Rule::Row row = open_row(step, arrays, width);
  std::size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) step.step(arrays, row, i, AllLanes());
  if (i < width) step.step(arrays, row, i, FirstLanes(width - i));
}

// The same for long spans, where a call is nothing: one copy of the loop instead of three.
template <class Step>
HWY_NOINLINE void step_span(const Step& step, const RowArrays& arrays, std::size_t width) {
  step_row(step, arrays, width);
}

template <class Step>
void step_touched(const Step& step, const RowUpdateArgs& args, std::size_t count) {
  using Rule = typename Step::Rule;
  const RowTable table = args.table;  // a copy, so that no store can be thought to change it
  for (std::size_t k = 0; k < std::min(count, kRowsAhead); ++k)
    prefetch_row<Rule>(table, args.rows[k]);
  for (std::size_t k = 0; k < count; ++k) {
    if (k + kRowsAhead < count) prefetch_row<Rule>(table, args.rows[k + kRowsAhead]);
    step_row(step, arrays_of<Rule>(table, args.rows[k], args.gradients + k * table.width),
             table.width);
  }
}

// Rows first … end − 1, which have no gradient: where nothing lies between them and nothing is kept
// a row, they are one long row.
template <class Step>
void step_untouched(const Step& step, const RowTable& table, std::uint64_t first,
                    std::uint64_t end) {
  using Rule = typename Step::Rule;
  bool gapless = Rule::kScalars == 0 && table.parameters.stride == table.width;
  for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) gapless &= table.state[s].stride == table.width;
  const std::uint64_t rows = gapless ? end - first : 1;
  for (; first < end; first += rows)
    step_span(step, arrays_of<Rule>(table, first, nullptr), rows * table.width);
}

template <class Step>
void step_all(const Step& step, const RowUpdateArgs& args, std::size_t count) {
  using Rule = typename Step::Rule;
  const RowTable table = args.table;
  std::uint64_t next = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const std::uint64_t row = args.rows[k];
    step_untouched(step, table, next, row);
    step_span(step, arrays_of<Rule>(table, row, args.gradients + k * table.width), table.width);
    next = row + 1;
  }
  step_untouched(step, table, next, table.rows);
}

inline std::size_t update_rows(const RowCoefficients& coefficients, const RowUpdateArgs& args) {
  const std::size_t present = present_rows(coefficients, args);
  with_row_rule<Vector>(coefficients, [&](const auto& rule) HWY_ATTR {
    using Rule = std::remove_cv_t<std::remove_reference_t<decltype(rule)>>;
    const RowStep<Rule> step(rule, coefficients, args.scale);
    if (args.coverage == RowCoverage::kTouched)
      step_touched(step, args, present);
    else
      step_all(step, args, present);
  });
  return args.count - present;
}

PENSTOCK_END_TARGET

#endif

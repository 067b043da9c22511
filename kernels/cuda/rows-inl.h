// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The body of a step of touched rows (kernels/rows.h) on a GPU. Four threads share a row; each goes
// through it four elements at a time, sixteen for the four, in 128-bit accesses where the arrays
// allow it. A rule that needs a mean over the row goes through it twice: open_lane(), then the four
// add their partial sums (what the Context cannot do alone: by shuffles on a GPU, in a loop in a
// test), then step_lane().

#include "kernels/cuda/elements-inl.h"
#include "kernels/math/rows-inl.h"
#include "kernels/rows.h"

PENSTOCK_BEGIN_TARGET

inline constexpr std::uint32_t kRowThreads = 4;    // that share a row
inline constexpr std::uint32_t kLaneElements = 4;  // neighbours that a thread steps at once
static_assert(kRowThreads * kLaneElements == kSums);

// One thread's place: which touched row, and which of the four it is.
struct RowLane {
  std::uint64_t index;
  std::uint32_t lane;
};

// What a thread knows of its row between the two passes. The sums are of elements lane·4 + j,
// modulo 16; add_halves() of the four threads finishes them.
template <class Rule>
struct OpenRow {
  float* parameters = nullptr;  // nullptr: no row, or one that the table does not have
  float* planes[Rule::kPlanes + Rule::kScalars + 1];
  const float* gradient;
  float scalars[Rule::kScalars + 1];
  float sums[Rule::kMeans + 1][kLaneElements];
};

// The four's own halves: elements j and j + 2, then j + 1; called once other threads' are added.
PENSTOCK_DEVICE inline float add_halves(const float (&sums)[kLaneElements]) {
  return add(add(sums[0], sums[2]), add(sums[1], sums[3]));
}

PENSTOCK_DEVICE inline void load_four(const float* from, float (&to)[kLaneElements]) {
  const Quad quad = *global(reinterpret_cast<const Quad*>(from));
  for (std::uint32_t j = 0; j < kLaneElements; ++j) to[j] = std::bit_cast<float>(quad.word[j]);
}
PENSTOCK_DEVICE inline void store_four(const float (&from)[kLaneElements], float* to) {
  Quad quad;
  for (std::uint32_t j = 0; j < kLaneElements; ++j)
    quad.word[j] = std::bit_cast<std::uint32_t>(canonical(from[j]));
  *global(reinterpret_cast<Quad*>(to)) = quad;
}

// The step of four elements or one of an open row, as the arrays allow.
template <class Rule>
struct LaneStep {
  const Rule& rule;
  const RowCoefficients& c;
  const OpenRow<Rule>& row;
  float scale;

  PENSTOCK_DEVICE float gradient(float raw) const {
    return clipped(mul(raw, scale), c.elements.clip);
  }
  PENSTOCK_DEVICE void add_square(float p, float raw, std::uint32_t j, OpenRow<Rule>& to) const {
    const float g = rule.gradient(p, gradient(raw));
    to.sums[0][j] = fma(g, g, to.sums[0][j]);
    if constexpr (Rule::kMeans > 1) to.sums[1][j] = add(to.sums[1][j], g);
  }
  PENSTOCK_DEVICE void step(float& p, float raw, float* state,
                            const typename Rule::Row& opened) const {
    rule(p, gradient(raw), state, opened);
    p = bounded(p, c.lower, c.upper);
  }
  PENSTOCK_DEVICE void step_one(std::uint64_t i, const typename Rule::Row& opened) const {
    float state[Rule::kPlanes + 1];
    for (int s = 0; s < int{Rule::kPlanes}; ++s) state[s] = row.planes[s][i];
    float p = row.parameters[i];
    step(p, row.gradient[i], state, opened);
    for (int s = 0; s < int{Rule::kPlanes}; ++s) row.planes[s][i] = canonical(state[s]);
    row.parameters[i] = canonical(p);
  }
  PENSTOCK_DEVICE void step_four(std::uint64_t i, const typename Rule::Row& opened) const {
    float p[kLaneElements], g[kLaneElements], planes[Rule::kPlanes + 1][kLaneElements];
    load_four(row.gradient + i, g);
    load_four(row.parameters + i, p);
    for (int s = 0; s < int{Rule::kPlanes}; ++s) load_four(row.planes[s] + i, planes[s]);
    for (std::uint32_t j = 0; j < kLaneElements; ++j) {
      float state[Rule::kPlanes + 1];
      for (int s = 0; s < int{Rule::kPlanes}; ++s) state[s] = planes[s][j];
      step(p[j], g[j], state, opened);
      for (int s = 0; s < int{Rule::kPlanes}; ++s) planes[s][j] = state[s];
    }
    for (int s = 0; s < int{Rule::kPlanes}; ++s) store_four(planes[s], row.planes[s] + i);
    store_four(p, row.parameters + i);
  }
};

// Calls `visit` with each element that a lane has in a row, j being its place among the lane's
// four.
template <class Visitor>
PENSTOCK_DEVICE void each_element(std::uint64_t width, std::uint32_t lane, const Visitor& visit) {
  for (std::uint64_t i = lane * kLaneElements; i < width; i += kSums)
    for (std::uint32_t j = 0; j < kLaneElements && i + j < width; ++j) visit(i + j, j);
}

template <class Rule>
PENSTOCK_DEVICE OpenRow<Rule> open_lane(const Rule& rule, const RowCoefficients& c,
                                        const RowUpdateArgs& args, const RowLane& at,
                                        bool aligned) {
  OpenRow<Rule> row;
  for (auto& sums : row.sums)
    for (float& sum : sums) sum = 0;
  if (at.index >= args.count || args.rows[at.index] >= args.table.rows) return row;
  const RowTable& table = args.table;
  const std::uint64_t number = args.rows[at.index];
  row.parameters = table.parameters.data + number * table.parameters.stride;
  row.gradient = args.gradients + at.index * table.width;
  for (int s = 0; s < int{Rule::kPlanes + Rule::kScalars}; ++s)
    row.planes[s] = table.state[s].data + number * table.state[s].stride;
  for (int k = 0; k < int{Rule::kScalars}; ++k) row.scalars[k] = *row.planes[Rule::kPlanes + k];
  if constexpr (Rule::kMeans > 0) {
    const LaneStep<Rule> step = {rule, c, row, args.scale};
    if (aligned) {
      for (std::uint64_t i = at.lane * kLaneElements; i < table.width; i += kSums) {
        float p[kLaneElements], g[kLaneElements];
        load_four(row.gradient + i, g);
        load_four(row.parameters + i, p);
        for (std::uint32_t j = 0; j < kLaneElements; ++j) step.add_square(p[j], g[j], j, row);
      }
    } else {
      each_element(table.width, at.lane, [&](std::uint64_t i, std::uint32_t j) {
        step.add_square(row.parameters[i], row.gradient[i], j, row);
      });
    }
  }
  return row;
}

// `row` holds the sums of all four threads.
template <class Rule>
PENSTOCK_DEVICE void step_lane(const Rule& rule, const RowCoefficients& c,
                               const RowUpdateArgs& args, const RowLane& at, OpenRow<Rule>& row,
                               bool aligned) {
  if (row.parameters == nullptr) return;
  const std::uint64_t width = args.table.width;
  float means[Rule::kMeans + 1] = {};
  for (int k = 0; k < int{Rule::kMeans}; ++k)
    means[k] = div(add_halves(row.sums[k]), static_cast<float>(width));
  const typename Rule::Row opened = rule.open(means, row.scalars);
  if (at.lane == 0)
    for (int k = 0; k < int{Rule::kScalars}; ++k)
      *row.planes[Rule::kPlanes + k] = canonical(row.scalars[k]);
  const LaneStep<Rule> step = {rule, c, row, args.scale};
  if (aligned)
    for (std::uint64_t i = at.lane * kLaneElements; i < width; i += kSums)
      step.step_four(i, opened);
  else
    each_element(width, at.lane, [&](std::uint64_t i, std::uint32_t) { step.step_one(i, opened); });
}

// Every row of every array starts at a multiple of 16 bytes.
inline bool rows_aligned(const RowUpdateArgs& args, RowPlanes planes) {
  const auto fits = [](const void* data, std::size_t stride) {
    return reinterpret_cast<std::uintptr_t>(data) % sizeof(Quad) == 0 &&
           stride % kLaneElements == 0;
  };
  bool aligned = fits(args.table.parameters.data, args.table.parameters.stride) &&
                 fits(args.gradients, args.table.width);
  for (std::uint32_t s = 0; s < planes.elements; ++s)
    aligned = aligned && fits(args.table.state[s].data, args.table.state[s].stride);
  return aligned;
}

PENSTOCK_END_TARGET

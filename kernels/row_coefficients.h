// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the loops over rows need to know of an optimizer at one step. Plain data: also compiled by
// nvcc.

#include <cstdint>
#include <limits>

#include "kernels/coefficients.h"

namespace penstock {

// How a row of a table is updated. The rules from kRowAdaGrad on keep some of their state as one
// number a row instead of one an element.
enum class RowRule : std::uint8_t {
  kElements,          // any UpdateRule, element by element
  kNesterovAdam,      // MindSpore's sparse adams with use_nesterov
  kPaddleStdAdaGrad,  // Paddle's std_adagrad: the step uses the sum of squares before this gradient
  kRowAdaGrad,        // FBGEMM's and TorchRec's row-wise adagrad
  kPaddleAdaGrad,     // Paddle's sparse adagrad: kPaddleStdAdaGrad with a mean a row
  kRowAdam,           // FBGEMM's partial row-wise adam: v is one a row
  kPaddleAdam,        // Paddle's sparse adam: each row has its own powers of β1 and β2
  kPaddleSharedAdam,  // Paddle's shared adam: m and v are one a row, too
};
inline constexpr std::uint32_t kRowRules = 8;

// State of a rule: planes as wide as the parameters first, then planes of one float a row.
struct RowPlanes {
  std::uint32_t elements = 0;
  std::uint32_t scalars = 0;
};
inline constexpr std::uint32_t kMaxRowPlanes = 4;
static_assert(kMaxStatePlanes <= kMaxRowPlanes);

// kNesterovAdam m, v; kPaddleStdAdaGrad s; kRowAdaGrad, kPaddleAdaGrad – s; kRowAdam m – v;
// kPaddleAdam m, v – β1ᵗ, β2ᵗ; kPaddleSharedAdam – m, v, β1ᵗ, β2ᵗ.
constexpr RowPlanes row_planes(RowRule rule, UpdateRule elements) {
  switch (rule) {
    case RowRule::kElements:
      return {state_planes(elements), 0};
    case RowRule::kNesterovAdam:
      return {2, 0};
    case RowRule::kPaddleStdAdaGrad:
      return {1, 0};
    case RowRule::kRowAdaGrad:
    case RowRule::kPaddleAdaGrad:
      return {0, 1};
    case RowRule::kRowAdam:
      return {1, 1};
    case RowRule::kPaddleAdam:
      return {2, 2};
    case RowRule::kPaddleSharedAdam:
      return {0, 4};
  }
  return {};
}

inline constexpr float kNoBound = std::numeric_limits<float>::infinity();

// Folded in double, rounded once to float. `elements` has the numbers that a rule shares with the
// dense one: clip, l2, step_gain, the βs, ε.
struct RowCoefficients {
  RowRule rule = RowRule::kElements;
  Coefficients elements;
  float initial_square = 0;  // Paddle's adagrads: G0
  float lower = -kNoBound;   // parameters end within [lower, upper]; NaN stays NaN
  float upper = kNoBound;

  friend bool operator==(const RowCoefficients&, const RowCoefficients&) = default;
};

constexpr RowPlanes row_planes(const RowCoefficients& c) {
  return row_planes(c.rule, c.elements.rule);
}

}  // namespace penstock

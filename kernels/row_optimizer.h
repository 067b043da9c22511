// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which rule updates the rows of a sparse table, and its numbers. What the systems call it:
//   MindSpore  SparseAdam   kElements of adam, ε-hat, RowCoverage::kAll; fold_rows_with_powers()
//              LazyAdam     the same with RowCoverage::kTouched
//              use_nesterov kNesterovAdam in place of kElements, either coverage
//              FTRL         kElements of ftrl, doubled, kTouched; lr_power −1/2 only, see
//              validate()
//   MXNet      row_sparse   kElements of sgd, momentum, adam, adagrad, ftrl in MXNet's forms;
//                           lazy_update: kTouched, else kAll
//   Paddle     fluid        kElements of sgd, adagrad, ftrl, and adam with lazy_mode: kTouched;
//                           momentum, rmsprop, and adam without lazy_mode: kAll
//              brpc tables  naive: kElements of sgd; adagrad: kPaddleAdaGrad; std_adagrad:
//                           kPaddleStdAdaGrad; adam: kPaddleAdam; shared_adam: kPaddleSharedAdam.
//                           Its gradients come divided by the feature's show count
//   FBGEMM     exact_row_wise_adagrad: kRowAdaGrad; partial_row_wise_adam: kRowAdam
// The coverage is named with the call (kernels/rows.h), the rest here.

#include <cstdint>
#include <limits>

#include "kernels/optimizer.h"
#include "kernels/row_coefficients.h"
#include "transport/base/status.h"

namespace penstock {

// Plain data. `elements` gives the numbers and the learning rate's schedule; its kind must be adam
// for the adams (ε-hat for Paddle's) and adagrad for the adagrads. Its weight_decay is an L2
// penalty as in the dense rules, and acts on the rows that a call covers.
struct RowOptimizerSpec {
  RowRule rule = RowRule::kElements;
  OptimizerSpec elements;
  double initial_square = 3.0;  // Paddle's adagrads: G0, above 0
  // Bounds of the parameters after each step, or infinities for none. Paddle's default is ±10.
  double lower = -std::numeric_limits<double>::infinity();
  double upper = std::numeric_limits<double>::infinity();
  double lr_power = -0.5;  // MindSpore's exponent of ftrl's accumulator

  friend bool operator==(const RowOptimizerSpec&, const RowOptimizerSpec&) = default;
};

// kInvalidArgument naming the first bad field, its value and what is allowed: all that
// validate(OptimizerSpec) refuses, an L1 penalty, compensation or bf16 state, a kind or a form of ε
// that the rule does not have, bounds that are no float32 or in the wrong order, a G0 that is not a
// normal positive float32, an lr_power other than −0.5 (it would need pow, which has other bits on
// every target).
Status validate(const RowOptimizerSpec& spec);

inline RowPlanes row_planes(const RowOptimizerSpec& spec) {
  return row_planes(spec.rule, rule_of(spec.elements));
}

// What a plane (as numbered in row_planes) holds before a row's first step: 0, the initial
// accumulator of adagrad and ftrl, β1 and β2 for the powers of Paddle's adams.
float initial_row_state(const RowOptimizerSpec& spec, std::uint32_t plane);

// `step` counts the updates of the table including this one, from 1. The spec is valid.
RowCoefficients fold_rows(const RowOptimizerSpec& spec, std::uint64_t step);

// The same for workers that send the powers of β with their gradients, multiplied for this step
// already (MindSpore): kElements of adam or adamw, and kNesterovAdam. kInvalidArgument for a power
// outside [0, 1), for another rule, and for a schedule, which counts steps that nobody counts here.
Result<RowCoefficients> fold_rows_with_powers(const RowOptimizerSpec& spec, double beta1_power,
                                              double beta2_power);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The optimizer a worker asks for, as text: kernels/optimizer_text.h with MXNet's words and forms.
//   sgd:learning_rate=0.1,momentum=0.9,wd=1e-4,rescale_grad=0.0078125
//   adam:learning_rate=0.001,clip_gradient=1,lazy_update=0
//
// Beside the fields of OptimizerSpec: wd is weight_decay (lambda2 of ftrl), rescale_grad multiplies
// the sum first, clip_gradient bounds it (negative: not at all; 0: to zero, where our clip=0 means
// no bound), lazy_update=0 steps all rows of a sparse table instead of the pushed ones; nag is
// nesterov. Forms that nothing is said of are MXNet's: sgd with a momentum is `momentum`,
// velocities are scaled, adam's ε is hat, centred rmsprop's is inside.

#include <cstdint>
#include <string_view>

#include "kernels/row_optimizer.h"
#include "kernels/rows.h"
#include "transport/base/status.h"

namespace penstock::kvserver {

struct ServerOptimizer {
  OptimizerSpec spec;
  float scale = 1;             // of the sum
  bool zero_gradient = false;  // bounded to 0
  RowCoverage coverage = RowCoverage::kTouched;

  // Of the update number `step`, from 1.
  Coefficients fold(std::uint64_t step) const;
  RowCoefficients fold_rows(std::uint64_t step) const;
};

// kInvalidArgument: a pickled optimizer, an unknown name or field, a number out of range.
// kUnsupported: what needs norms of whole tensors, since keys are cut over servers.
Result<ServerOptimizer> parse_server_optimizer(std::string_view text);

}  // namespace penstock::kvserver

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The main job: every worker pushes and pulls a whole model, round after round.

#include "bench/psbench/local_cluster.h"
#include "bench/psbench/tensor_set.h"

namespace penstock::psbench {

struct ExchangeOptions {
  TensorSetOptions tensors;
  std::uint64_t rounds = 0;  // measured; 0: as many as `seconds` take, at least kMinRounds
  double seconds = 2;
  std::uint64_t warm_up = 3;  // rounds before, not counted
  bool check = true;          // rounds 1 and 2 against the reference kernels, bit by bit
  bool audit = false;         // every round against the ledger
  bool alone = false;         // the page is this worker's own; `rounds` is given
};

// Every round against the ledger, in its terms. kInvalidArgument with another optimizer than sgd.
Status set_audit(ExchangeOptions& options);

inline constexpr std::uint64_t kMinRounds = 5;

// The gradients stay the same from the warm-up on, unless audited; time for filling and checking is
// not counted. `model` and `page` outlive the program.
std::unique_ptr<WorkerProgram> make_exchange(const Model& model, const ExchangeOptions& options,
                                             SharedPage& page);

}  // namespace penstock::psbench

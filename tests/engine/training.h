// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The same training by any servers, for comparing their bits.

#include "tests/engine/hand_job.h"

namespace penstock::test {

struct Trained {
  std::vector<std::vector<std::byte>> rounds;  // worker 0's parameters, all keys, round by round
  Status status;
};

// Trains keys of many kinds with seeded gradients, some of them absent: optimizers of every number
// of state planes, all types, sizes that divide by nothing, initial values from worker 0 and from a
// seed. Equal options but for who computes must give equal bits. Fails the test where workers hold
// different parameters.
Trained train(const HandJobOptions& options, Round rounds);

}  // namespace penstock::test

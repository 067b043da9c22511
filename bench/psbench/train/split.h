// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which rows are used for what, decided by a seed alone: the same on every machine and worker.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace penstock::psbench {

using RowIndex = std::uint32_t;

struct Split {
  std::vector<RowIndex> train, held_out;
};

// Every row in one of the two, in an order drawn from the seed; `held_out_percent` (0…100) of them,
// rounded down, held out.
Split split_rows(std::size_t rows, unsigned held_out_percent, std::uint64_t seed);

// Fisher and Yates's shuffle.
void shuffle(std::span<RowIndex> rows, std::uint64_t seed);

// The part of a batch that worker `worker` of `workers` takes: contiguous, in order, sizes differ
// by one at most.
std::span<const RowIndex> shard_of(std::span<const RowIndex> batch, std::size_t worker,
                                   std::size_t workers);

}  // namespace penstock::psbench

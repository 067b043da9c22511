// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/split.h"

#include <numeric>
#include <utility>

#include "transport/base/check.h"
#include "transport/base/random.h"

namespace penstock::psbench {

void shuffle(std::span<RowIndex> rows, std::uint64_t seed) {
  SeededRandom random(seed);
  for (std::size_t left = rows.size(); left > 1; --left)
    std::swap(rows[left - 1], rows[random.below(left)]);
}

Split split_rows(std::size_t rows, unsigned held_out_percent, std::uint64_t seed) {
  CHECK(held_out_percent <= 100);
  std::vector<RowIndex> all(rows);
  std::iota(all.begin(), all.end(), RowIndex{0});
  shuffle(all, seed);
  const auto cut = all.begin() + static_cast<std::ptrdiff_t>(rows * held_out_percent / 100);
  return {{cut, all.end()}, {all.begin(), cut}};
}

std::span<const RowIndex> shard_of(std::span<const RowIndex> batch, std::size_t worker,
                                   std::size_t workers) {
  CHECK(worker < workers);
  const std::size_t begin = batch.size() * worker / workers;
  return batch.subspan(begin, batch.size() * (worker + 1) / workers - begin);
}

}  // namespace penstock::psbench

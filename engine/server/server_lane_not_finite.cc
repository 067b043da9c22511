// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Gradients with a NaN or an infinity in them: which rounds they end, counting and logging.

#include <fmt/format.h>

#include <bit>
#include <string>

#include "engine/server/server_lane.h"
#include "transport/base/log.h"

namespace penstock {
namespace {

void count(std::atomic<std::uint64_t>& counter) {  // one writer: no locked add
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

std::string name_workers(std::uint64_t workers) {
  std::string names = std::popcount(workers) == 1 ? "worker" : "workers";
  for (; workers != 0; workers &= workers - 1) {
    names += fmt::format(" {}", std::countr_zero(workers));
  }
  return names;
}

}  // namespace

const Declaration& ServerLane::declaration(const ServerSlice& slice) const {
  const SlicePlace& place = slice.tables->placement().slices[slice.index];
  return slice.tables->keys()[place.declaration].declaration;
}

// Every slice of the key hears the same of each worker, so all of them fail or none.
bool ServerLane::has_failed(const ServerSlice& slice) const {
  return slice.round.not_finite(live_) != 0 &&
         declaration(slice).spec.not_finite == NotFinite::kFail;
}

// Off the normal path, so it may log: the first time, the second, the fourth, …, and of what
// workers said, which is the same for all slices of a key, only with one of them.
void ServerLane::note_not_finite(std::uint32_t index) {
  ServerSlice& slice = slices_[index];
  const std::uint64_t flagged = slice.round.not_finite(live_);
  const bool in_sum = !slice.failed && slice.tables->not_finite[slice.index] != 0;
  if (flagged == 0 && !in_sum) return;
  slice.tables->not_finite[slice.index] = 0;
  count(stats_.not_finite);
  for (Rank worker = 0; worker < workers_; ++worker)
    if ((flagged >> worker & 1U) != 0) count(stats_.not_finite_from[worker]);
  const SlicePlace& place = slice.tables->placement().slices[slice.index];
  if (!in_sum && slice.tables->keys()[place.declaration].first_slice != index) return;
  if (!std::has_single_bit(++not_finite_events_)) return;
  const std::string what =
      in_sum ? fmt::format("the sum of elements {} to {} has a NaN or an infinity",
                           place.elements.begin, place.elements.begin + place.elements.count - 1)
             : fmt::format("the gradient of {} has a NaN or an infinity: {}", name_workers(flagged),
                           slice.failed ? "the round failed" : "left out");
  PENSTOCK_LOG_WARN("lane {}: {} round {}: {} (number {}; each power of two is logged)", index_,
                    describe(declaration(slice)), slice.round.round(), what, not_finite_events_);
}

}  // namespace penstock

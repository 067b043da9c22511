// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/norm_update.h"

#include <cmath>

namespace penstock {
using Phase = NormTable::Phase;

bool NormUpdater::start(const SliceUpdate& update) {
  NormTable* const table = table_of(update);
  if (table == nullptr) return plain_->start(update);
  if (!open(*table, update.round)) return false;
  const std::uint32_t place = place_of(*table, update);
  const NormSlice& slice = table->slices[place];
  std::array<const void*, kMaxJobWorkers> gradients;
  NormSums part = table->step.sum(contributions(update, gradients), slice);
  if (!std::isfinite(part.first)) update.tables.not_finite[update.index] = 1;
  const bool direction = !table->step.waits_for_sums();
  if (direction) part = table->step.direction(slice);  // while it is in cache
  part_done(*table, place, part, direction ? kDirectionStage : kSumStage);
  return false;
}

// One slice further.
void NormUpdater::pass(NormTable& table) {
  const std::uint32_t index = table.next;
  const bool last = index + 1 == table.slices.size();
  switch (table.phase) {
    case Phase::kFactor:
      ++table.next;
      table.step.factor(table.slices[index]);
      if (!last) return;
      table.step.set_factors();
      table.phase = Phase::kDirection;
      table.next = 0;
      return;
    case Phase::kDirection:
      if (last) running_.pop();  // part_done() may queue it again
      part_done(table, index, table.step.direction(table.slices[index]), kDirectionStage);
      return;
    default:
      table.step.apply(table.slices[index]);
      if (last) running_.pop();
      applied(table);
      return;
  }
}

std::size_t NormUpdater::poll(std::span<std::uint32_t> done) {
  std::size_t finished = plain_->poll(done);
  exchange();
  for (std::size_t work = 0; work < done.size() && finished < done.size(); ++work) {
    NormTable* const table = running_.first;
    if (table == nullptr) break;
    const bool apply = table->phase == Phase::kApply;
    const std::uint32_t slice = table->lane_slices[table->next];
    pass(*table);
    if (apply) done[finished++] = slice;
  }
  return finished;
}

bool NormUpdater::may_sleep() const {
  return running_.first == nullptr && exchanges_nothing() && plain_->may_sleep();
}

}  // namespace penstock

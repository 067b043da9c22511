// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/norm_update.h"

#include <algorithm>
#include <cmath>

#include "transport/base/log.h"

namespace penstock {
using Phase = NormTable::Phase;

void NormUpdater::Queue::push(NormTable& table) {
  table.behind = nullptr;
  (first == nullptr ? first : last->behind) = &table;
  last = &table;
}

void NormUpdater::Queue::pop() { first = first->behind; }

bool NormUpdater::start(const SliceUpdate& update) {
  const SlicePlace& place = update.tables.placement().slices[update.index];
  const KeyTable& key = update.tables.keys()[place.declaration];
  NormTable* const table = key.norms.get();
  if (update.round == 0 || table == nullptr) return plain_->start(update);
  if (!table->open) {
    table->open = true;
    table->round = update.round;
    table->step.begin(update.round + key.earlier_steps);
  } else if (table->round != update.round) {
    // A worker waits for the whole key before its next round; this slice never gets an answer.
    PENSTOCK_LOG_WARN("key {}: workers pushed round {} of a slice while round {} is running",
                      table->key, update.round, table->round);
    return false;
  }
  const auto slice =
      std::lower_bound(table->slices.begin(), table->slices.end(), place.elements.begin,
                       [](const NormSlice& at, std::uint64_t begin) { return at.first < begin; });
  std::array<const void*, kMaxJobWorkers> gradients;
  NormSums part = table->step.sum(contributions(update, gradients), *slice);
  if (!std::isfinite(part.first)) update.tables.not_finite[update.index] = 1;
  const bool direction = !table->step.waits_for_sums();
  if (direction) part = table->step.direction(*slice);  // while it is in cache
  table->parts[static_cast<std::size_t>(slice - table->slices.begin())] = part;
  if (++table->next == table->slices.size())
    part_done(*table, direction ? kDirectionStage : kSumStage);
  return false;
}

// The stage follows from the phase, so that a table waits with nothing beside it.
void NormUpdater::part_done(NormTable& table, std::uint8_t stage) {
  table.next = 0;
  table.phase = stage == kSumStage ? Phase::kSum : Phase::kDirection;
  if (table.whole && !(table.grouped && stage == kSumStage))
    return combined(table, stage, add_in_order(table.parts), 0);
  telling_.push(table);
  tell();
}

void NormUpdater::tell() {
  bool told = false;
  while (telling_.first != nullptr) {
    NormTable& table = *telling_.first;
    const std::uint8_t stage = table.phase == Phase::kSum ? kSumStage : kDirectionStage;
    NormTable* const behind = table.behind;  // the control loop has the table once it is pushed
    if (!rings_.ready.push({&table, stage})) break;
    telling_.first = behind;
    told = true;
  }
  if (told) control_.wake();
}

void NormUpdater::combined(NormTable& table, std::uint8_t stage, const NormSums& tensor,
                           double group) {
  if (stage == kDirectionStage) {
    table.step.set_direction(tensor);
    table.phase = Phase::kApply;
  } else {
    table.step.set_sums(tensor, group);
    table.phase = table.step.has_factors()     ? Phase::kFactor
                  : table.step.has_direction() ? Phase::kDirection
                                               : Phase::kApply;
  }
  running_.push(table);
}

// One slice further. True when the key has nothing to run any more.
bool NormUpdater::pass(NormTable& table) {
  const std::uint32_t index = table.next++;
  const bool last = table.next == table.slices.size();
  switch (table.phase) {
    case Phase::kFactor:
      table.step.factor(table.slices[index]);
      if (!last) return false;
      table.step.set_factors();
      table.phase = Phase::kDirection;
      table.next = 0;
      return false;
    case Phase::kDirection:
      table.parts[index] = table.step.direction(table.slices[index]);
      return last;
    default:
      table.step.apply(table.slices[index]);
      return last;
  }
}

std::size_t NormUpdater::poll(std::span<std::uint32_t> done) {
  std::size_t finished = plain_->poll(done);
  if (telling_.first != nullptr) tell();
  for (NormCombined sums; rings_.combined.pop(sums);)
    combined(*sums.table, sums.stage, sums.tensor, sums.group);
  for (std::size_t work = 0; work < done.size() && finished < done.size(); ++work) {
    NormTable* const table = running_.first;
    if (table == nullptr) break;
    const Phase phase = table->phase;
    const std::uint32_t slice = table->lane_slices[table->next];
    const bool ended = pass(*table);
    if (ended) running_.pop();
    if (phase == Phase::kApply) {
      done[finished++] = slice;
      if (!ended) continue;
      table->open = false;
      table->next = 0;
      table->phase = Phase::kSum;
    } else if (ended) {
      part_done(*table, kDirectionStage);
    }
  }
  return finished;
}

bool NormUpdater::may_sleep() const {
  return running_.first == nullptr && telling_.first == nullptr && rings_.combined.empty() &&
         plain_->may_sleep();
}

}  // namespace penstock

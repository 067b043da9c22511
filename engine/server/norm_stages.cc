// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/norm_stages.h"

#include <algorithm>

#include "transport/base/log.h"

namespace penstock {
using Phase = NormTable::Phase;

void NormStages::Queue::push(NormTable& table) {
  table.behind = nullptr;
  (first == nullptr ? first : last->behind) = &table;
  last = &table;
}

void NormStages::Queue::pop() { first = first->behind; }

NormTable* NormStages::table_of(const SliceUpdate& update) {
  const SlicePlace& place = update.tables.placement().slices[update.index];
  return update.round == 0 ? nullptr : update.tables.keys()[place.declaration].norms.get();
}

bool NormStages::open(NormTable& table, Round round) {
  if (!table.open) {
    table.open = true;
    table.round = round;
    table.step.begin(round + table.earlier_steps);
    return true;
  }
  if (table.round == round) return true;
  // A worker waits for the whole key before its next round.
  PENSTOCK_LOG_WARN("key {}: workers pushed round {} of a slice while round {} is running",
                    table.key, round, table.round);
  return false;
}

std::uint32_t NormStages::place_of(const NormTable& table, const SliceUpdate& update) {
  const std::uint64_t begin = update.tables.placement().slices[update.index].elements.begin;
  const auto slice =
      std::lower_bound(table.slices.begin(), table.slices.end(), begin,
                       [](const NormSlice& at, std::uint64_t first) { return at.first < first; });
  return static_cast<std::uint32_t>(slice - table.slices.begin());
}

// The stage follows from the phase, so that a table waits with nothing beside it.
void NormStages::part_done(NormTable& table, std::uint32_t place, const NormSums& part,
                           std::uint8_t stage) {
  table.parts[place] = part;
  if (++table.next < table.slices.size()) return;
  table.next = 0;
  table.phase = stage == kSumStage ? Phase::kSum : Phase::kDirection;
  if (table.whole && !(table.grouped && stage == kSumStage))
    return combined(table, stage, add_in_order(table.parts), 0);
  telling_.push(table);
  tell();
}

void NormStages::tell() {
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

void NormStages::combined(NormTable& table, std::uint8_t stage, const NormSums& tensor,
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
  run(table);
}

void NormStages::applied(NormTable& table) {
  if (++table.next < table.slices.size()) return;
  table.open = false;
  table.next = 0;
  table.phase = Phase::kSum;
}

void NormStages::exchange() {
  if (telling_.first != nullptr) tell();
  for (NormCombined sums; rings_.combined.pop(sums);)
    combined(*sums.table, sums.stage, sums.tensor, sums.group);
}

}  // namespace penstock

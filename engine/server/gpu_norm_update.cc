// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/gpu_norm_update.h"

#include <cmath>

namespace penstock {

bool GpuNormUpdater::start(const SliceUpdate& update) {
  NormTable* const table = table_of(update);
  if (table == nullptr) return gpu_->start(update);
  if (!open(*table, update.round)) return false;
  GpuWork work = GpuWork::of(update);
  work.stage = GpuStage::kSum;
  work.norms = table;
  work.place = place_of(*table, update);
  table->tables = &update.tables;
  gpu_->submit(work);
  return false;
}

// All slices of the table are free: each has had the stage before.
void GpuNormUpdater::run(NormTable& table) {
  GpuWork work;
  work.tables = table.tables;
  work.round = table.round;
  work.stage =
      table.phase == NormTable::Phase::kDirection ? GpuStage::kDirection : GpuStage::kApply;
  work.norms = &table;
  for (; work.place < table.slices.size(); ++work.place) {
    work.slice = table.lane_slices[work.place];
    work.index = table.places[work.place];
    gpu_->submit(work);
  }
}

void GpuNormUpdater::stage_done(const GpuUpdater::Done& done) {
  NormTable& table = *done.work.norms;
  const bool sums = done.work.stage == GpuStage::kSum && table.step.waits_for_sums();
  if (sums && !std::isfinite(done.norms.first)) done.work.tables->not_finite[done.work.index] = 1;
  part_done(table, done.work.place, done.norms, sums ? kSumStage : kDirectionStage);
}

std::size_t GpuNormUpdater::poll(std::span<std::uint32_t> done) {
  exchange();
  std::array<GpuUpdater::Done, GpuUpdater::kMaxBatch> stages;
  const std::size_t room = std::min<std::size_t>(done.size(), GpuUpdater::kMaxBatch);
  const std::size_t told = gpu_->poll_stages({stages.data(), room});
  std::size_t finished = 0;
  for (std::size_t i = 0; i < told; ++i) {
    if (has_norms(stages[i].work.stage)) {
      stage_done(stages[i]);
      continue;
    }
    if (stages[i].work.norms != nullptr) applied(*stages[i].work.norms);
    done[finished++] = stages[i].work.slice;
  }
  return finished;
}

}  // namespace penstock

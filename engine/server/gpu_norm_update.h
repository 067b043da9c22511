// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// GpuNormUpdater: updates that need norms of a whole tensor, with the passes on a GPU. Every pass
// of a slice is a stage of GpuUpdater, whose norms come back with its completion; between the
// stages they go the same way as those of NormUpdater. Thread: the lane's. Allocates nothing.

#include "engine/server/gpu_updater.h"
#include "engine/server/norm_stages.h"

namespace penstock {

class GpuNormUpdater final : public NormStages {
 public:
  GpuNormUpdater(std::unique_ptr<GpuUpdater> gpu, NormRings& rings, Waker& control)
      : NormStages(rings, control), gpu_(std::move(gpu)) {}

  bool start(const SliceUpdate& update) override;
  std::size_t poll(std::span<std::uint32_t> done) override;
  bool may_sleep() const override { return exchanges_nothing() && gpu_->may_sleep(); }
  void expect(std::size_t slices) override { gpu_->expect(slices); }
  bool reads_mapped() const override { return gpu_->reads_mapped(); }
  Status failure() const override { return gpu_->failure(); }

 private:
  void run(NormTable& table) override;
  void stage_done(const GpuUpdater::Done& done);

  std::unique_ptr<GpuUpdater> gpu_;
};

}  // namespace penstock

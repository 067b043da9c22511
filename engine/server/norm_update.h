// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NormUpdater: updates that need norms of a whole tensor, around an Updater for all others.
// start() parks the sum of a slice; once the norms are there (norm_stages.h), poll() runs what is
// left, a few slices a call. Thread: the lane's. Allocates nothing.

#include "engine/server/norm_stages.h"

namespace penstock {

class NormUpdater final : public NormStages {
 public:
  NormUpdater(std::unique_ptr<Updater> plain, NormRings& rings, Waker& control)
      : NormStages(rings, control), plain_(std::move(plain)) {}

  bool start(const SliceUpdate& update) override;
  std::size_t poll(std::span<std::uint32_t> done) override;
  bool may_sleep() const override;
  void expect(std::size_t slices) override { plain_->expect(slices); }
  bool reads_mapped() const override { return plain_->reads_mapped(); }
  Status failure() const override { return plain_->failure(); }

 private:
  void run(NormTable& table) override { running_.push(table); }
  void pass(NormTable& table);

  std::unique_ptr<Updater> plain_;
  Queue running_;  // have passes to run
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NormUpdater: updates that need norms of a whole tensor, around an Updater for all others.
// start() parks the sum of a slice; once the lane's slices of the key are there, their part of the
// norms goes to the control loop (NormExchange) and comes back added up with everybody else's, or
// is added here if the lane has the whole tensor; then poll() runs what is left, a few slices a
// call. Thread: the lane's. Allocates nothing.

#include "engine/server/update.h"

namespace penstock {

class NormUpdater final : public Updater {
 public:
  // `rings` and `control`, which is woken for them, outlive this.
  NormUpdater(std::unique_ptr<Updater> plain, NormRings& rings, Waker& control)
      : plain_(std::move(plain)), rings_(rings), control_(control) {}

  bool start(const SliceUpdate& update) override;
  std::size_t poll(std::span<std::uint32_t> done) override;
  bool may_sleep() const override;
  void expect(std::size_t slices) override { plain_->expect(slices); }
  bool reads_mapped() const override { return plain_->reads_mapped(); }
  Status failure() const override { return plain_->failure(); }

 private:
  // First in, first out, through NormTable::behind.
  struct Queue {
    NormTable* first = nullptr;
    NormTable* last = nullptr;
    void push(NormTable& table);
    void pop();
  };
  void part_done(NormTable& table, std::uint8_t stage);
  void combined(NormTable& table, std::uint8_t stage, const NormSums& tensor, double group);
  void tell();
  bool pass(NormTable& table);

  std::unique_ptr<Updater> plain_;
  NormRings& rings_;
  Waker& control_;
  Queue running_;  // have passes to run
  Queue telling_;  // wait for room in the ring
};

}  // namespace penstock

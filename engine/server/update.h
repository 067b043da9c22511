// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The arithmetic of a round, behind an interface: on this CPU it is done when start() returns, on a
// device or across servers it goes on while the lane does other things.

#include <array>
#include <span>

#include "engine/protocol/limits.h"
#include "engine/server/lane_tables.h"
#include "kernels/table.h"

namespace penstock {

// One slice ready to be updated.
struct SliceUpdate {
  LaneTables& tables;
  std::uint32_t slice = 0;  // in the lane
  std::size_t index = 0;    // in the placement
  Round round = 0;
  std::uint64_t contributors = 0;  // workers whose gradient is to be added
  std::uint64_t in_place = 0;      // of those, the ones to read in the worker's own buffer
  std::uint32_t live = 0;          // workers a mean divides by
  std::uint32_t workers = 0;       // of the job: ranks 0 … workers−1
};

// Thread: the lane's. Allocates nothing after the tables are there, never waits.
class Updater {
 public:
  virtual ~Updater() = default;

  // Begins the update of a full round. True: it is done. False: it goes on, and poll() names the
  // slice once it is; until then the slots and tables of it are in use, and the slice has no other.
  virtual bool start(const SliceUpdate& update) = 0;

  // Goes on with what was begun and writes the slices that are done, as many as there is room for.
  virtual std::size_t poll(std::span<std::uint32_t> done) = 0;

  // True when poll() has nothing to find until the lane is woken: the lane may sleep.
  virtual bool may_sleep() const = 0;

  // So many slices may be on their way at once from now on. Set-up: may allocate.
  virtual void expect(std::size_t slices) { (void)slices; }
  // Whether start() takes gradients in the workers' own memory.
  virtual bool reads_mapped() const { return true; }
  // Why updates that were begun will never be done; OK while they will.
  virtual Status failure() const { return {}; }
};

// What a slice's contributors pushed: gradients (in the array given), workers, gradient_dtype,
// count and scale of the kernels' arguments.
UpdateArgs contributions(const SliceUpdate& update,
                         std::array<const void*, kMaxJobWorkers>& gradients);

// Everything at once, on the lane's own core, where the slice is still in cache.
class HostUpdater final : public Updater {
 public:
  explicit HostUpdater(const KernelTable& kernels) : kernels_(kernels) {}
  bool start(const SliceUpdate& update) override;
  std::size_t poll(std::span<std::uint32_t>) override { return 0; }
  bool may_sleep() const override { return true; }

 private:
  const KernelTable& kernels_;
};

// The coefficients of the key at this round: folded once a round.
void fold_for(KeyTable& key, Round round);

// The first half of round 0: masters and outgoing copies from worker 0's slot or from the key's
// initializer. Thread: the lane's. Allocates nothing.
void initialize_parameters(const SliceUpdate& update, const KernelTable& kernels);

// Round 0: fills the masters from worker 0's slot or from the key's initializer. Later rounds: one
// fused pass over the contributors' slots in rank order. Both leave the outgoing copy ready.
// Thread: the lane's. Allocates nothing.
void update_slice(const SliceUpdate& update, const KernelTable& kernels);

}  // namespace penstock

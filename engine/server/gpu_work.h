// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One slice on its way through a GPU, and what has to be launched for it.

#include "engine/server/gpu_batch.h"
#include "engine/server/update.h"

namespace penstock {

// What is done to a slice at one go.
enum class GpuStage : std::uint8_t {
  kRound,      // a whole update, or initial values
  kSum,        // of an optimizer with norms: the sums are parked, and what step.sum() returns;
               // where the step does not wait for sums, what step.direction() returns
  kDirection,  // what step.direction() returns
  kApply,      // parameters, state and wire
};

constexpr bool reads_gradients(GpuStage stage) { return stage <= GpuStage::kSum; }
// The others leave parameters.
constexpr bool has_norms(GpuStage stage) {
  return stage == GpuStage::kSum || stage == GpuStage::kDirection;
}

struct GpuWork {
  LaneTables* tables = nullptr;
  std::uint32_t slice = 0;
  std::size_t index = 0;
  Round round = 0;
  std::uint64_t contributors = 0;
  std::uint32_t live = 0;
  GpuStage stage = GpuStage::kRound;
  NormTable* norms = nullptr;  // of every stage but kRound
  std::uint32_t place = 0;     // of the slice in it

  static GpuWork of(const SliceUpdate& update) {
    GpuWork work;
    work.tables = &update.tables;
    work.slice = update.slice;
    work.index = update.index;
    work.round = update.round;
    work.contributors = update.contributors;
    work.live = update.live;
    return work;
  }
  SliceUpdate update() const { return {*tables, slice, index, round, contributors, 0, live, 0}; }
  const SlicePlace& slice_place() const { return tables->placement().slices[index]; }
  std::uint64_t count() const { return slice_place().elements.count; }
  const SliceStorage& storage() const { return tables->storage(index); }
  const DeviceTables& device() const { return *tables->device(); }
  KeyTable& key() const { return tables->keys()[slice_place().declaration]; }
  const TensorSpec& spec() const { return key().declaration.spec; }
  // Initial values lie on the GPU, in worker 0's slot.
  bool arrived_on_device() const {
    return round == 0 && spec().from_worker_0 && (contributors & 1U) != 0 &&
           tables->arrives_on_device(0);
  }
};

// Puts what the work launches into the batch: all of a round but what is copied before and after.
// `norms`: where on the GPU its norms go, of works that have some.
void describe(const GpuWork& work, NormSums* norms, GpuBatch& batch);

}  // namespace penstock

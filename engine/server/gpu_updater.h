// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The arithmetic of a lane on a GPU, a stream of its own for each lane. Slices that become full
// between two polls, or while the GPU is busy, go together: their gradients are copied in, or
// flushed where they arrived in the GPU's memory, one launch for each rule and gradient type among
// them steps them all, the parameters are copied out, and a mark behind it all says when. Nothing
// is waited for.

#include <array>
#include <memory>
#include <vector>

#include "engine/gpu/compute_device.h"
#include "engine/server/update.h"
#include "transport/base/host_memory.h"

namespace penstock {

// kUnsupported naming the key and what of it a GPU server does not have.
Status gpu_supports(const Declaration& declaration);

class GpuUpdater final : public Updater {
 public:
  // Slices of one batch: with the default slices, enough to fill any GPU.
  static constexpr std::uint32_t kMaxBatch = 64;
  // On the stream at once: one runs while the next is queued behind it, and the rest gathers.
  static constexpr std::uint32_t kBatches = 2;

  // `kernels` compute initial values. The tables it is given are those of a GPU lane.
  static Result<std::unique_ptr<GpuUpdater>> create(ComputeDevice& compute,
                                                    const KernelTable& kernels,
                                                    std::uint32_t workers);

  void expect(std::size_t slices) override;
  bool start(const SliceUpdate& update) override;
  std::size_t poll(std::span<std::uint32_t> done) override;
  bool may_sleep() const override { return !failure_.ok() || (waiting_ == 0 && flying_ == 0); }
  bool reads_mapped() const override { return false; }  // what is not pinned cannot be copied
  Status failure() const override { return failure_; }

 private:
  struct Work {  // a SliceUpdate that can be moved about
    LaneTables* tables = nullptr;
    SliceUpdate update() const { return {*tables, slice, index, round, contributors, 0, live, 0}; }
    std::uint32_t slice = 0;
    std::size_t index = 0;
    Round round = 0;
    std::uint64_t contributors = 0;
    std::uint32_t live = 0;

    const SlicePlace& place() const { return tables->placement().slices[index]; }
    const SliceStorage& storage() const { return tables->storage(index); }
    KeyTable& key() const { return tables->keys()[place().declaration]; }
    const TensorSpec& spec() const { return key().declaration.spec; }
    // Initial values lie on the GPU, in worker 0's slot.
    bool arrived_on_device() const {
      return round == 0 && spec().from_worker_0 && (contributors & 1U) != 0 &&
             tables->arrives_on_device(0);
    }
    // Launches are for one of these each; the coefficients are folded.
    std::pair<UpdateRule, DType> kernel() const {
      if (round == 0) return {UpdateRule::kSgd, spec().parameter_dtype};
      return {key().coefficients.rule, spec().gradient_dtype};
    }
  };
  struct Batch {
    std::array<std::uint32_t, kMaxBatch> slices{};
    std::uint32_t count = 0;
    std::uint32_t told = 0;  // of its slices
    bool reached = false;
  };
  // The steps of a batch, then the gradients' addresses of each: here, pinned, and there.
  struct Table {
    cuda::SliceStep* steps = nullptr;
    std::byte* device = nullptr;
  };

  GpuUpdater(const KernelTable& kernels, std::uint32_t workers)
      : kernels_(kernels), workers_(workers) {}
  Table table(std::uint32_t batch) const;
  std::size_t table_bytes(std::size_t steps) const;
  std::size_t tell(std::span<std::uint32_t> done);
  Work take();
  Status launch(std::uint32_t batch);
  Status initialize(const Work& work);
  Status fill_state(const Work& work, std::uint32_t plane);
  Status copy_seen(const Work& work);
  Status flush(std::span<const Work> steps) const;
  Status copy_gradients(const Work& work);
  Status copy_parameters(const Work& work);
  static void describe(const Work& work, cuda::SliceStep& step, const void** gradients);
  Status launch_steps(const Table& table, std::span<Work> steps);

  const KernelTable& kernels_;
  const std::uint32_t workers_;
  HostMemory host_tables_;
  std::unique_ptr<ComputeMemory> pinned_tables_;
  std::unique_ptr<ComputeMemory> device_tables_;
  std::unique_ptr<ComputeStream> stream_;  // after what it reads: it waits for its work
  std::vector<Work> ring_;                 // of slices that wait, first_ the oldest
  std::size_t first_ = 0, waiting_ = 0;
  std::array<Batch, kBatches> batches_;
  std::uint32_t oldest_ = 0, flying_ = 0;  // batches on the stream
  std::array<Work, kMaxBatch> steps_;      // of the batch that is being made
  Status failure_;
};

}  // namespace penstock

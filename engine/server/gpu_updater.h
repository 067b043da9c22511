// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The arithmetic of a lane on a GPU, a stream of its own for each lane. Slices that become full
// between two polls, or while the GPU is busy, go together: their gradients are copied in, or
// flushed where they arrived in the GPU's memory, one launch for each kernel that they need does
// them all (gpu_batch.h), parameters and norms are copied out, and a mark behind it all says when.
// Nothing is waited for.

#include <array>
#include <memory>
#include <vector>

#include "engine/gpu/compute_device.h"
#include "engine/server/gpu_work.h"
#include "transport/base/host_memory.h"

namespace penstock {

// kUnsupported naming the key and what of it a GPU server does not have.
Status gpu_supports(const Declaration& declaration);

class GpuUpdater final : public Updater {
 public:
  // Slices of one batch: with the default slices, enough to fill any GPU.
  static constexpr std::uint32_t kMaxBatch = GpuBatch::kMaxSlices;
  // On the stream at once: one runs while the next is queued behind it, and the rest gathers.
  static constexpr std::uint32_t kBatches = 2;

  // A stage that is done; `norms` of stages that have some.
  struct Done {
    GpuWork work;
    NormSums norms;
  };

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

  // The same by stages: a slice has one at a time.
  void submit(const GpuWork& work);
  std::size_t poll_stages(std::span<Done> done);

 private:
  struct Batch {
    std::array<Done, kMaxBatch> slices{};
    std::uint32_t count = 0;
    std::uint32_t norms = 0;  // of its slices have norms: the first ones of its results
    std::uint32_t told = 0;   // of its slices
    bool reached = false;
  };
  // Of one batch: its table and the norms that it makes. Pinned here, and there.
  struct Table {
    std::byte* host = nullptr;
    std::byte* device = nullptr;
    NormSums* norms = nullptr;
    NormSums* norms_there = nullptr;
  };

  GpuUpdater(const KernelTable& kernels, std::uint32_t workers)
      : kernels_(kernels), workers_(workers), batch_(workers) {}
  Table table(std::uint32_t batch) const;
  std::size_t tell(std::span<Done> done);
  GpuWork take();
  Status launch(std::uint32_t batch);
  Status copy_out(std::uint32_t batch, std::span<const GpuWork> works);
  Status initialize(const GpuWork& work);
  Status fill_state(const GpuWork& work, std::uint32_t plane);
  Status copy_seen(const GpuWork& work);
  Status flush(std::span<const GpuWork> works) const;
  Status copy_gradients(const GpuWork& work);
  Status copy_parameters(const GpuWork& work);

  const KernelTable& kernels_;
  const std::uint32_t workers_;
  HostMemory host_tables_;
  std::unique_ptr<ComputeMemory> pinned_tables_;
  std::unique_ptr<ComputeMemory> device_tables_;
  std::unique_ptr<ComputeStream> stream_;  // after what it reads: it waits for its work
  std::vector<GpuWork> ring_;              // of slices that wait, first_ the oldest
  std::size_t first_ = 0, waiting_ = 0;
  std::array<Batch, kBatches> batches_;
  std::uint32_t oldest_ = 0, flying_ = 0;  // batches on the stream
  GpuBatch batch_;                         // that is being made, and …
  std::array<GpuWork, kMaxBatch> works_;   // … what of it launches something
  Status failure_;
};

}  // namespace penstock

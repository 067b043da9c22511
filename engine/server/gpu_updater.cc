// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/gpu_updater.h"

#include <algorithm>
#include <bit>

#include "engine/protocol/limits.h"
#include "kernels/math/half.h"

namespace penstock {
namespace {

// Behind each batch's table, here and there.
constexpr std::size_t kNormsBytes = GpuUpdater::kMaxBatch * sizeof(NormSums);
static_assert(kNormsBytes % 256 == 0, "tables stay aligned");

}  // namespace

Result<std::unique_ptr<GpuUpdater>> GpuUpdater::create(ComputeDevice& compute,
                                                       const KernelTable& kernels,
                                                       std::uint32_t workers) {
  std::unique_ptr<GpuUpdater> self(new GpuUpdater(kernels, workers));
  const std::size_t bytes = kBatches * (GpuBatch::table_bytes(workers) + kNormsBytes);
  PENSTOCK_ASSIGN_OR_RETURN(self->host_tables_, HostMemory::allocate(bytes));
  PENSTOCK_ASSIGN_OR_RETURN(self->pinned_tables_, compute.pin(self->host_tables_.bytes()));
  PENSTOCK_ASSIGN_OR_RETURN(self->device_tables_, compute.allocate(bytes));
  PENSTOCK_ASSIGN_OR_RETURN(self->stream_, compute.create_stream(kBatches));
  return self;
}

GpuUpdater::Table GpuUpdater::table(std::uint32_t batch) const {
  const std::size_t table = GpuBatch::table_bytes(workers_);
  const std::size_t offset = batch * (table + kNormsBytes);
  std::byte* const device = device_tables_->bytes().data() + offset;
  return {host_tables_.as<std::byte>(offset), device, host_tables_.as<NormSums>(offset + table),
          reinterpret_cast<NormSums*>(device + table)};
}

// ---- what waits ---------------------------------------------------------------------------------

void GpuUpdater::expect(std::size_t slices) {
  if (slices <= ring_.size()) return;
  std::vector<GpuWork> larger(slices);
  for (std::size_t i = 0; i < waiting_; ++i) larger[i] = ring_[(first_ + i) % ring_.size()];
  ring_ = std::move(larger);
  first_ = 0;
}

bool GpuUpdater::start(const SliceUpdate& update) {
  submit(GpuWork::of(update));
  return false;
}

void GpuUpdater::submit(const GpuWork& work) {
  CHECK(waiting_ < ring_.size(), "slice {} was not expected", work.slice);
  ring_[(first_ + waiting_++) % ring_.size()] = work;
}

GpuWork GpuUpdater::take() {
  const GpuWork work = ring_[first_];
  first_ = (first_ + 1) % ring_.size();
  --waiting_;
  return work;
}

std::size_t GpuUpdater::poll(std::span<std::uint32_t> done) {
  std::array<Done, kMaxBatch> stages;
  const std::size_t room = std::min<std::size_t>(done.size(), kMaxBatch);
  const std::size_t told = poll_stages({stages.data(), room});
  for (std::size_t i = 0; i < told; ++i) done[i] = stages[i].work.slice;
  return told;
}

std::size_t GpuUpdater::poll_stages(std::span<Done> done) {
  if (!failure_.ok()) return 0;
  const std::size_t told = tell(done);
  while (failure_.ok() && waiting_ > 0 && flying_ < kBatches) {
    failure_ = launch((oldest_ + flying_) % kBatches);
    ++flying_;
  }
  return told;
}

std::size_t GpuUpdater::tell(std::span<Done> done) {
  std::size_t told = 0;
  while (flying_ > 0 && told < done.size()) {
    Batch& batch = batches_[oldest_];
    if (!batch.reached) {
      const Result<bool> reached = stream_->reached(oldest_);
      if (!reached.ok()) failure_ = reached.status();
      if (!reached.ok() || !*reached) return told;
      batch.reached = true;
      const NormSums* norms = table(oldest_).norms;
      for (std::uint32_t i = 0; i < batch.count; ++i)
        if (has_norms(batch.slices[i].work.stage)) batch.slices[i].norms = *norms++;
    }
    done[told++] = batch.slices[batch.told++];
    if (batch.told < batch.count) continue;
    oldest_ = (oldest_ + 1) % kBatches;
    --flying_;
  }
  return told;
}

// ---- one batch ----------------------------------------------------------------------------------

Status GpuUpdater::launch(std::uint32_t which) {
  Batch& batch = batches_[which];
  batch = {};
  const Table at = table(which);
  batch_.begin(at.host, at.device);
  std::size_t launched = 0;
  while (waiting_ > 0 && batch.count < kMaxBatch) {
    const GpuWork work = take();
    batch.slices[batch.count++] = {work, {}};
    if (work.round == 0) {
      PENSTOCK_RETURN_IF_ERROR(initialize(work));
      if (!work.arrived_on_device()) continue;
    } else {
      if (work.stage == GpuStage::kRound) fold_for(work.key(), work.round);
      if (reads_gradients(work.stage)) PENSTOCK_RETURN_IF_ERROR(copy_gradients(work));
    }
    NormSums* const norms = at.norms_there + (has_norms(work.stage) ? batch.norms++ : 0);
    describe(work, norms, batch_);
    works_[launched++] = work;
  }
  const std::span<const GpuWork> works(works_.data(), launched);
  PENSTOCK_RETURN_IF_ERROR(flush(works));
  PENSTOCK_RETURN_IF_ERROR(batch_.launch(*stream_));
  PENSTOCK_RETURN_IF_ERROR(copy_out(which, works));
  return stream_->mark(which);
}

Status GpuUpdater::copy_out(std::uint32_t which, std::span<const GpuWork> works) {
  for (const GpuWork& work : works) {
    if (work.round == 0) PENSTOCK_RETURN_IF_ERROR(copy_seen(work));
    if (!has_norms(work.stage)) PENSTOCK_RETURN_IF_ERROR(copy_parameters(work));
  }
  const Table at = table(which);
  const std::size_t bytes = batches_[which].norms * sizeof(NormSums);
  return bytes == 0 ? Status() : stream_->copy_out(at.norms, at.norms_there, bytes);
}

// Initial values are computed here, in the pinned copy that workers receive; or, where they arrived
// on the GPU, by a step that adds them to −0, which changes no bit of any number.
Status GpuUpdater::initialize(const GpuWork& work) {
  const DeviceTables& device = work.device();
  const SliceStorage& at = work.storage();
  const std::uint64_t count = work.count();
  for (std::uint32_t plane = 0; plane < state_planes(rule_of(work.spec().optimizer)); ++plane)
    PENSTOCK_RETURN_IF_ERROR(fill_state(work, plane));
  if (work.arrived_on_device()) return stream_->fill(device.parameters(at), -0.0F, count);
  initialize_parameters(work.update(), kernels_);
  PENSTOCK_RETURN_IF_ERROR(
      stream_->copy_in(device.parameters(at), work.tables->parameters(at), count * sizeof(float)));
  return copy_seen(work);
}

// A plane of the rule, to whole words: a bf16 plane of an odd count has room for one element more.
Status GpuUpdater::fill_state(const GpuWork& work, std::uint32_t plane) {
  const OptimizerSpec& optimizer = work.spec().optimizer;
  const float initial = initial_state(optimizer, plane);
  auto* const state = static_cast<float*>(work.device().state(work.storage(), plane));
  const std::uint64_t count = work.count();
  if (optimizer.state_dtype == StateDType::kFloat32) return stream_->fill(state, initial, count);
  const std::uint32_t code = float_to_bf16(initial);
  return stream_->fill(state, std::bit_cast<float>(code | code << 16), (count + 1) / 2);
}

// With delay compensation the plane after the rule's begins as the initial values, once there.
Status GpuUpdater::copy_seen(const GpuWork& work) {
  const OptimizerSpec& optimizer = work.spec().optimizer;
  if (optimizer.compensation == 0) return {};
  const DeviceTables& device = work.device();
  return stream_->copy(device.state(work.storage(), state_planes(rule_of(optimizer))),
                       device.parameters(work.storage()), work.count() * sizeof(float));
}

// One asks the GPU for all that arrived on it so far.
Status GpuUpdater::flush(std::span<const GpuWork> works) const {
  for (const GpuWork& work : works) {
    if (work.contributors == 0 || !reads_gradients(work.stage)) continue;
    const auto worker = static_cast<Rank>(std::countr_zero(work.contributors));
    return work.tables->arrives_on_device(worker) ? work.tables->flush_slots(worker) : Status();
  }
  return {};
}

Status GpuUpdater::copy_gradients(const GpuWork& work) {
  const SlicePlace& place = work.slice_place();
  const TensorSpec& spec = work.spec();
  const std::size_t bytes = spec.encoded() ? encoded_bytes(spec.codec, work.count())
                                           : work.count() * dtype_bytes(spec.gradient_dtype);
  for (std::uint64_t left = work.contributors; left != 0; left &= left - 1) {
    const auto worker = static_cast<Rank>(std::countr_zero(left));
    if (work.tables->arrives_on_device(worker)) return {};
    PENSTOCK_RETURN_IF_ERROR(stream_->copy_in(work.device().slot(worker, place),
                                              work.tables->slot(worker, place, work.round), bytes));
  }
  return {};
}

Status GpuUpdater::copy_parameters(const GpuWork& work) {
  const DeviceTables& device = work.device();
  const SliceStorage& at = work.storage();
  const DType dtype = work.spec().parameter_dtype;
  const std::size_t bytes = work.count() * dtype_bytes(dtype);
  if (dtype == DType::kFloat32)
    return stream_->copy_out(work.tables->parameters(at), device.parameters(at), bytes);
  return stream_->copy_out(work.tables->wire(at, dtype), device.wire(at, dtype), bytes);
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/gpu_updater.h"

#include <algorithm>
#include <bit>

#include "engine/protocol/limits.h"
#include "kernels/math/half.h"

namespace penstock {
namespace {

constexpr std::size_t kTableAlignment = 256;  // of both tables of a batch

bool is_aligned(const cuda::SliceStep& step, std::span<const void* const> gradients) {
  auto bits = reinterpret_cast<std::uintptr_t>(step.parameters) |
              reinterpret_cast<std::uintptr_t>(step.wire);
  for (const void* plane : step.state) bits |= reinterpret_cast<std::uintptr_t>(plane);
  for (const void* gradient : gradients) bits |= reinterpret_cast<std::uintptr_t>(gradient);
  return bits % 16 == 0;
}

}  // namespace

Result<std::unique_ptr<GpuUpdater>> GpuUpdater::create(ComputeDevice& compute,
                                                       const KernelTable& kernels,
                                                       std::uint32_t workers) {
  std::unique_ptr<GpuUpdater> self(new GpuUpdater(kernels, workers));
  const std::size_t bytes = kBatches * self->table_bytes(kMaxBatch);
  PENSTOCK_ASSIGN_OR_RETURN(self->host_tables_, HostMemory::allocate(bytes));
  PENSTOCK_ASSIGN_OR_RETURN(self->pinned_tables_, compute.pin(self->host_tables_.bytes()));
  PENSTOCK_ASSIGN_OR_RETURN(self->device_tables_, compute.allocate(bytes));
  PENSTOCK_ASSIGN_OR_RETURN(self->stream_, compute.create_stream(kBatches));
  return self;
}

std::size_t GpuUpdater::table_bytes(std::size_t steps) const {
  const std::size_t bytes = steps * (sizeof(cuda::SliceStep) + workers_ * sizeof(void*));
  return (bytes + kTableAlignment - 1) / kTableAlignment * kTableAlignment;
}

GpuUpdater::Table GpuUpdater::table(std::uint32_t batch) const {
  const std::size_t offset = batch * table_bytes(kMaxBatch);
  return {host_tables_.as<cuda::SliceStep>(offset), device_tables_->bytes().data() + offset};
}

// ---- what waits ---------------------------------------------------------------------------------

void GpuUpdater::expect(std::size_t slices) {
  if (slices <= ring_.size()) return;
  std::vector<Work> larger(slices);
  for (std::size_t i = 0; i < waiting_; ++i) larger[i] = ring_[(first_ + i) % ring_.size()];
  ring_ = std::move(larger);
  first_ = 0;
}

bool GpuUpdater::start(const SliceUpdate& update) {
  CHECK(waiting_ < ring_.size(), "slice {} was not expected", update.slice);
  Work& work = ring_[(first_ + waiting_++) % ring_.size()];
  work.tables = &update.tables;
  work.slice = update.slice;
  work.index = update.index;
  work.round = update.round;
  work.contributors = update.contributors;
  work.live = update.live;
  return false;
}

GpuUpdater::Work GpuUpdater::take() {
  const Work work = ring_[first_];
  first_ = (first_ + 1) % ring_.size();
  --waiting_;
  return work;
}

std::size_t GpuUpdater::poll(std::span<std::uint32_t> done) {
  if (!failure_.ok()) return 0;
  const std::size_t told = tell(done);
  while (failure_.ok() && waiting_ > 0 && flying_ < kBatches) {
    failure_ = launch((oldest_ + flying_) % kBatches);
    ++flying_;
  }
  return told;
}

std::size_t GpuUpdater::tell(std::span<std::uint32_t> done) {
  std::size_t told = 0;
  while (flying_ > 0 && told < done.size()) {
    Batch& batch = batches_[oldest_];
    if (!batch.reached) {
      const Result<bool> reached = stream_->reached(oldest_);
      if (!reached.ok()) failure_ = reached.status();
      if (!reached.ok() || !*reached) return told;
      batch.reached = true;
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
  std::size_t steps = 0;
  while (waiting_ > 0 && batch.count < kMaxBatch) {
    const Work work = take();
    batch.slices[batch.count++] = work.slice;
    if (work.round == 0) {
      PENSTOCK_RETURN_IF_ERROR(initialize(work));
      if (!work.arrived_on_device()) continue;
    } else {
      fold_for(work.key(), work.round);
      PENSTOCK_RETURN_IF_ERROR(copy_gradients(work));
    }
    steps_[steps++] = work;
  }
  PENSTOCK_RETURN_IF_ERROR(launch_steps(table(which), {steps_.data(), steps}));
  return stream_->mark(which);
}

// Initial values are computed here, in the pinned copy that workers receive; or, where they arrived
// on the GPU, by a step that adds them to −0, which changes no bit of any number.
Status GpuUpdater::initialize(const Work& work) {
  const DeviceTables& device = *work.tables->device();
  const SliceStorage& at = work.storage();
  const std::uint64_t count = work.place().elements.count;
  for (std::uint32_t plane = 0; plane < state_planes(rule_of(work.spec().optimizer)); ++plane)
    PENSTOCK_RETURN_IF_ERROR(fill_state(work, plane));
  if (work.arrived_on_device()) return stream_->fill(device.parameters(at), -0.0F, count);
  initialize_parameters(work.update(), kernels_);
  PENSTOCK_RETURN_IF_ERROR(
      stream_->copy_in(device.parameters(at), work.tables->parameters(at), count * sizeof(float)));
  return copy_seen(work);
}

// A plane of the rule, to whole words: a bf16 plane of an odd count has room for one element more.
Status GpuUpdater::fill_state(const Work& work, std::uint32_t plane) {
  const OptimizerSpec& optimizer = work.spec().optimizer;
  const float initial = initial_state(optimizer, plane);
  auto* const state = static_cast<float*>(work.tables->device()->state(work.storage(), plane));
  const std::uint64_t count = work.place().elements.count;
  if (optimizer.state_dtype == StateDType::kFloat32) return stream_->fill(state, initial, count);
  const std::uint32_t code = float_to_bf16(initial);
  return stream_->fill(state, std::bit_cast<float>(code | code << 16), (count + 1) / 2);
}

// With delay compensation the plane after the rule's begins as the initial values, once there.
Status GpuUpdater::copy_seen(const Work& work) {
  const OptimizerSpec& optimizer = work.spec().optimizer;
  if (optimizer.compensation == 0) return {};
  const DeviceTables& device = *work.tables->device();
  return stream_->copy(device.state(work.storage(), state_planes(rule_of(optimizer))),
                       device.parameters(work.storage()),
                       work.place().elements.count * sizeof(float));
}

// One asks the GPU for all that arrived on it so far.
Status GpuUpdater::flush(std::span<const Work> steps) const {
  for (const Work& work : steps) {
    if (work.contributors == 0) continue;
    const auto worker = static_cast<Rank>(std::countr_zero(work.contributors));
    return work.tables->arrives_on_device(worker) ? work.tables->flush_slots(worker) : Status();
  }
  return {};
}

Status GpuUpdater::copy_gradients(const Work& work) {
  const SlicePlace& place = work.place();
  const std::size_t bytes = place.elements.count * dtype_bytes(work.spec().gradient_dtype);
  for (std::uint64_t left = work.contributors; left != 0; left &= left - 1) {
    const auto worker = static_cast<Rank>(std::countr_zero(left));
    if (work.tables->arrives_on_device(worker)) return {};
    PENSTOCK_RETURN_IF_ERROR(stream_->copy_in(work.tables->device()->slot(worker, place),
                                              work.tables->slot(worker, place, work.round), bytes));
  }
  return {};
}

Status GpuUpdater::copy_parameters(const Work& work) {
  const DeviceTables& device = *work.tables->device();
  const SliceStorage& at = work.storage();
  const DType dtype = work.spec().parameter_dtype;
  const std::size_t bytes = work.place().elements.count * dtype_bytes(dtype);
  if (dtype == DType::kFloat32)
    return stream_->copy_out(work.tables->parameters(at), device.parameters(at), bytes);
  return stream_->copy_out(work.tables->wire(at, dtype), device.wire(at, dtype), bytes);
}

void GpuUpdater::describe(const Work& work, cuda::SliceStep& step, const void** gradients) {
  const DeviceTables& device = *work.tables->device();
  const SliceStorage& at = work.storage();
  const TensorSpec& spec = work.spec();
  step = {};
  const std::uint64_t contributors = work.round == 0 ? 1 : work.contributors;
  for (std::uint64_t left = contributors; left != 0; left &= left - 1) {
    const auto worker = static_cast<Rank>(std::countr_zero(left));
    gradients[step.workers++] = work.tables->arrives_on_device(worker)
                                    ? work.tables->slot(worker, work.place(), work.round)
                                    : device.slot(worker, work.place());
  }
  step.parameters = device.parameters(at);
  step.wire = device.wire(at, spec.parameter_dtype);
  step.wire_dtype = spec.parameter_dtype;
  step.count = work.place().elements.count;
  step.first_element = work.place().elements.begin;
  if (work.round == 0) {
    step.coefficients.step_gain = 1;
  } else {
    for (std::uint32_t plane = 0; plane < state_planes(spec.optimizer); ++plane)
      step.state[plane] = device.state(at, plane);
    const double share = spec.reduce == Reduce::kMean ? work.live : 1;
    step.scale = static_cast<float>(spec.gradient_scale / share);
    step.coefficients = work.key().coefficients;
  }
  step.aligned = is_aligned(step, {gradients, step.workers});
}

Status GpuUpdater::launch_steps(const Table& table, std::span<Work> steps) {
  if (steps.empty()) return {};
  PENSTOCK_RETURN_IF_ERROR(flush(steps));
  std::sort(steps.begin(), steps.end(),
            [](const Work& a, const Work& b) { return a.kernel() < b.kernel(); });
  auto* gradients = reinterpret_cast<const void**>(table.steps + steps.size());
  auto* const there = reinterpret_cast<const cuda::SliceStep*>(table.device);
  auto* const gradients_there = reinterpret_cast<const void* const*>(there + steps.size());
  std::uint32_t blocks = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bool same_launch = i > 0 && steps[i].kernel() == steps[i - 1].kernel();
    if (!same_launch) blocks = 0;
    describe(steps[i], table.steps[i], gradients + i * workers_);
    table.steps[i].gradients = gradients_there + i * workers_;
    table.steps[i].first_block = blocks;
    blocks += cuda::blocks_of(table.steps[i].count);
  }
  PENSTOCK_RETURN_IF_ERROR(stream_->copy_in(table.device, table.steps, table_bytes(steps.size())));
  for (std::size_t begin = 0; begin < steps.size();) {
    std::size_t end = begin + 1;
    while (end < steps.size() && steps[end].kernel() == steps[begin].kernel()) ++end;
    const auto [rule, dtype] = steps[begin].kernel();
    const cuda::SliceStep& last = table.steps[end - 1];
    PENSTOCK_RETURN_IF_ERROR(stream_->step(rule, dtype, there + begin,
                                           static_cast<std::uint32_t>(end - begin),
                                           last.first_block + cuda::blocks_of(last.count)));
    begin = end;
  }
  for (const Work& work : steps) {
    if (work.round == 0) PENSTOCK_RETURN_IF_ERROR(copy_seen(work));
    PENSTOCK_RETURN_IF_ERROR(copy_parameters(work));
  }
  return {};
}

}  // namespace penstock

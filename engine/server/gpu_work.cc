// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/gpu_work.h"

#include <bit>

namespace penstock {
namespace {

using cuda::GradientType;
using cuda::Pass;

// The bits of all addresses, for their alignment.
std::uintptr_t bits_of(std::initializer_list<const void*> addresses) {
  std::uintptr_t bits = 0;
  for (const void* const address : addresses) bits |= reinterpret_cast<std::uintptr_t>(address);
  return bits;
}

GradientType gradient_type(const GpuWork& work) {
  const TensorSpec& spec = work.spec();
  if (work.round == 0) return cuda::gradient_type(spec.parameter_dtype);
  return spec.encoded() ? GradientType::kEncoded : cuda::gradient_type(spec.gradient_dtype);
}

// What the contributors pushed; `bits` takes the addresses' bits.
cuda::SliceGradients gradients_of(const GpuWork& work, GpuBatch& batch, std::uintptr_t& bits) {
  const TensorSpec& spec = work.spec();
  cuda::SliceGradients slice;
  const void* gradients[kMaxJobWorkers];
  const std::uint64_t contributors = work.round == 0 ? 1 : work.contributors;
  for (std::uint64_t left = contributors; left != 0; left &= left - 1) {
    const auto worker = static_cast<Rank>(std::countr_zero(left));
    const void* const from = work.tables->arrives_on_device(worker)
                                 ? work.tables->slot(worker, work.slice_place(), work.round)
                                 : work.device().slot(worker, work.slice_place());
    bits |= reinterpret_cast<std::uintptr_t>(from);
    gradients[slice.workers++] = from;
  }
  slice.gradients = batch.put({gradients, slice.workers});
  slice.count = work.count();
  if (work.round == 0) return slice;
  const double share = spec.reduce == Reduce::kMean ? work.live : 1;
  slice.scale = static_cast<float>(spec.gradient_scale / share);
  if (spec.encoded()) slice.codec = spec.codec;
  return slice;
}

// The parked sum as the one gradient.
cuda::SliceGradients parked(const GpuWork& work, float scale, GpuBatch& batch) {
  const void* const sums = work.device().sums(work.index);
  cuda::SliceGradients slice;
  slice.gradients = batch.put({&sums, 1});
  slice.workers = 1;
  slice.count = work.count();
  slice.scale = scale;
  return slice;
}

cuda::SlicePass make_pass(const GpuWork& work, const cuda::SliceGradients& gradients,
                          std::uintptr_t gradient_bits) {
  const DeviceTables& device = work.device();
  const SliceStorage& at = work.storage();
  const TensorSpec& spec = work.spec();
  cuda::SlicePass pass;
  static_cast<cuda::SliceGradients&>(pass) = gradients;
  pass.sums = device.sums(work.index);
  pass.parameters = device.parameters(at);
  if (spec.optimizer.kind == OptimizerKind::kLamb) {
    pass.m = static_cast<float*>(device.state(at, 0));
    pass.v = static_cast<float*>(device.state(at, 1));
  }
  pass.wire = device.wire(at, spec.parameter_dtype);
  pass.wire_dtype = spec.parameter_dtype;
  if (spec.codec.kind == CodecKind::kTopK) pass.kept = codec_kept(spec.codec, pass.count);
  if (work.norms != nullptr) pass.lamb = work.norms->step.lamb();
  const std::uintptr_t bits =
      gradient_bits | bits_of({pass.sums, pass.parameters, pass.m, pass.v, pass.wire});
  pass.aligned = bits % 16 == 0;
  return pass;
}

// Of gradients that are one float32 array from here on where they were topk's.
struct Source {
  cuda::SliceGradients gradients;
  GradientType type;
  std::uintptr_t bits;
};
Source sum_top_k(const GpuWork& work, GpuBatch& batch) {
  Source source{{}, gradient_type(work), 0};
  source.gradients = gradients_of(work, batch, source.bits);
  if (source.type != GradientType::kEncoded || work.spec().codec.kind != CodecKind::kTopK)
    return source;
  batch.pass(Pass::kTopK, source.type, make_pass(work, source.gradients, source.bits));
  return {parked(work, source.gradients.scale, batch), GradientType::kFloat32, 0};
}

void describe_step(const GpuWork& work, const Source& source, const Coefficients& coefficients,
                   GpuBatch& batch) {
  const DeviceTables& device = work.device();
  const SliceStorage& at = work.storage();
  const TensorSpec& spec = work.spec();
  cuda::SliceStep step;
  static_cast<cuda::SliceGradients&>(step) = source.gradients;
  step.parameters = device.parameters(at);
  std::uintptr_t bits = source.bits;
  for (std::uint32_t plane = 0; work.round > 0 && plane < state_planes(spec.optimizer); ++plane) {
    step.state[plane] = device.state(at, plane);
    bits |= bits_of({step.state[plane]});
  }
  step.wire = device.wire(at, spec.parameter_dtype);
  step.wire_dtype = spec.parameter_dtype;
  step.first_element = work.slice_place().elements.begin;
  step.coefficients = coefficients;
  bits |= bits_of({step.parameters, step.wire, device.sums(work.index)});
  step.aligned = bits % 16 == 0;
  batch.step(coefficients.rule, source.type, step);
}

void describe_direction(const GpuWork& work, NormSums* norms, float scale, GpuBatch& batch) {
  cuda::SlicePass pass = make_pass(work, parked(work, scale, batch), 0);
  batch.pass(Pass::kLambMoments, GradientType::kFloat32, pass);
  pass.norms = norms;
  batch.pass(Pass::kSquares, GradientType::kFloat32, pass);
}

void describe_sum(const GpuWork& work, NormSums* norms, GpuBatch& batch) {
  const Source source = sum_top_k(work, batch);
  cuda::SlicePass pass = make_pass(work, source.gradients, source.bits);
  pass.clip = work.norms->step.clip();
  batch.pass(Pass::kPark, source.type, pass);
  if (!work.norms->step.waits_for_sums()) return describe_direction(work, norms, 1, batch);
  pass.norms = norms;
  batch.pass(Pass::kSquares, GradientType::kFloat32, pass);
}

void describe_apply(const GpuWork& work, GpuBatch& batch) {
  const NormStep& step = work.norms->step;
  if (step.has_direction())
    return batch.pass(Pass::kLambApply, GradientType::kFloat32,
                      make_pass(work, parked(work, step.scale(), batch), 0));
  describe_step(work, {parked(work, step.scale(), batch), GradientType::kFloat32, 0},
                step.coefficients(), batch);
}

}  // namespace

void describe(const GpuWork& work, NormSums* norms, GpuBatch& batch) {
  switch (work.stage) {
    case GpuStage::kRound: {
      Coefficients initial;  // initial values are added to −0
      initial.step_gain = 1;
      const Source source = sum_top_k(work, batch);
      return describe_step(work, source, work.round == 0 ? initial : work.key().coefficients,
                           batch);
    }
    case GpuStage::kSum:
      return describe_sum(work, norms, batch);
    case GpuStage::kDirection:
      return describe_direction(work, norms, work.norms->step.scale(), batch);
    case GpuStage::kApply:
      return describe_apply(work, batch);
  }
}

}  // namespace penstock

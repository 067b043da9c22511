// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/norm_tensor.h"

namespace penstock::test {

NormTensor::NormTensor(const OptimizerSpec& optimizer, std::vector<std::uint64_t> dimensions,
                       const std::vector<std::size_t>& cuts, const KernelTable& kernels)
    : spec(optimizer), shape(std::move(dimensions)), norm_step(spec, shape, kernels) {
  std::size_t elements = 1;
  for (const std::uint64_t dimension : shape) elements *= dimension;
  parameters.resize(elements);
  parked.resize(elements);
  for (std::uint32_t plane = 0; plane < state_planes(spec); ++plane)
    state[plane].assign(elements, initial_state(spec, plane));
  std::vector<std::size_t> ends = cuts;
  ends.push_back(elements);
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    NormSlice& slice = slices.emplace_back();
    slice.sums = parked.data() + begin;
    slice.parameters = parameters.data() + begin;
    for (std::uint32_t plane = 0; plane < state_planes(spec); ++plane)
      slice.state[plane] = state[plane].data() + begin;
    slice.count = end - begin;
    slice.first = begin;
    begin = end;
  }
  parts.resize(slices.size());
}

void NormTensor::sum(std::uint64_t step, const std::vector<const void*>& gradients, DType dtype,
                     float scale) {
  norm_step.begin(step);
  run([&](const NormSlice& slice) {
    std::vector<const void*> from;
    for (const void* gradient : gradients)
      from.push_back(gradient == nullptr ? nullptr
                                         : static_cast<const std::byte*>(gradient) +
                                               slice.first * dtype_bytes(dtype));
    UpdateArgs args;
    args.gradients = from.data();
    args.workers = static_cast<std::uint32_t>(from.size());
    args.gradient_dtype = dtype;
    args.count = slice.count;
    args.scale = scale;
    return norm_step.sum(args, slice);
  });
}

void NormTensor::finish(double group) {
  if (norm_step.waits_for_sums()) norm_step.set_sums(sums(), group);
  if (norm_step.has_factors()) {
    for (const NormSlice& slice : slices) norm_step.factor(slice);
    norm_step.set_factors();
  }
  if (norm_step.has_direction()) {
    run([&](const NormSlice& slice) { return norm_step.direction(slice); });
    norm_step.set_direction(sums());
  }
  for (const NormSlice& slice : slices) norm_step.apply(slice);
}

}  // namespace penstock::test

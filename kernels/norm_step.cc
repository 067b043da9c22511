// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm_step.h"

#include <algorithm>
#include <cmath>

#include "kernels/reproducible.h"

namespace penstock {
namespace {

float to_float(double value) { return static_cast<float>(value); }

// c/‖g‖ where the norm is above c, else 1; also for a norm that is not a number.
float clip_scale(double bound, double square_sum) {
  const double norm = std::sqrt(square_sum);
  return norm > bound ? to_float(bound / norm) : 1.0F;
}

double ratio(double above, double below) { return above > 0 && below > 0 ? above / below : 1; }

// adam's moments with a rate of one: the step's gain is the first correction.
LambCoefficients fold_lamb(const OptimizerSpec& spec, std::uint64_t step) {
  OptimizerSpec adam;
  adam.kind = OptimizerKind::kAdam;
  adam.learning_rate = 1;
  adam.beta1 = spec.beta1;
  adam.beta2 = spec.beta2;
  adam.epsilon = spec.epsilon;
  LambCoefficients lamb;
  lamb.moments = fold(adam, step);
  lamb.moment_gain = -lamb.moments.step_gain;
  lamb.weight_decay = to_float(spec.weight_decay);
  return lamb;
}

}  // namespace

NormSums add_in_order(std::span<const NormSums> parts) {
  NormSums sums;
  for (const NormSums& part : parts) {
    sums.first += part.first;
    sums.second += part.second;
  }
  return sums;
}

NormStep::NormStep(const OptimizerSpec& spec, std::span<const std::uint64_t> shape,
                   const KernelTable& kernels)
    : spec_(spec),
      kernels_(kernels),
      norms_(norm_kernels(kernels.target)),
      waits_for_sums_(spec.kind != OptimizerKind::kLamb || spec.clip_norm > 0 ||
                      spec.clip_global_norm > 0) {
  std::uint64_t elements = 1;
  for (const std::uint64_t dimension : shape) elements *= dimension;
  elements_ = static_cast<double>(elements);
  columns_ = shape.back();
  rows_ = shape.size() > 1 ? shape[shape.size() - 2] : 1;
  if (!has_factors()) return;
  const auto make = [](std::uint64_t count) {
    return Side{std::vector<float>(count), std::vector<float>(count), std::vector<double>(count)};
  };
  row_ = make(elements / columns_);
  column_ = make(elements / rows_);
}

std::uint64_t NormStep::memory_bytes() const {
  return (row_.mean.size() + column_.mean.size()) * (2 * sizeof(float) + sizeof(double));
}

void NormStep::begin(std::uint64_t step) {
  step_ = step;
  rate_ = learning_rate_at(spec_.schedule, spec_.learning_rate, step);
  clip_ = spec_.clip > 0 ? to_float(spec_.clip) : kNoClip;
  scale_ = 1;
  if (spec_.kind == OptimizerKind::kLamb) {
    lamb_ = fold_lamb(spec_, step);
  } else if (spec_.kind != OptimizerKind::kAdaFactor) {
    coefficients_ = fold(spec_, step);
    coefficients_.clip = kNoClip;  // the parked sum is clipped
  }
  std::fill(row_.sums.begin(), row_.sums.end(), 0.0);
  std::fill(column_.sums.begin(), column_.sums.end(), 0.0);
}

NormSums NormStep::sum(UpdateArgs args, const NormSlice& slice) const {
  args.parameters = slice.parameters;
  return norms_.sum(args, clip_, slice.sums);
}

void NormStep::set_sums(const NormSums& tensor, double group) {
  if (spec_.clip_norm > 0) scale_ = clip_scale(spec_.clip_norm, tensor.first);
  if (spec_.clip_global_norm > 0) scale_ = clip_scale(spec_.clip_global_norm, group);
  parameter_rms_ = std::sqrt(tensor.second / elements_);
  if (spec_.kind == OptimizerKind::kLars)
    fold_lars(static_cast<double>(scale_) * std::sqrt(tensor.first), std::sqrt(tensor.second));
}

void NormStep::fold_lars(double gradient_norm, double parameter_norm) {
  double local = 1;
  if (gradient_norm > 0 && parameter_norm > 0)
    local = spec_.trust * parameter_norm /
            (gradient_norm + spec_.weight_decay * parameter_norm + spec_.epsilon);
  const bool scaled = spec_.momentum_form == MomentumForm::kScaledVelocity;
  coefficients_.velocity_gain = to_float(scaled ? rate_ * local : local);
}

FactorArgs NormStep::factor_args(const NormSlice& slice) const {
  FactorArgs args;
  args.sums = slice.sums;
  args.scale = scale_;
  args.parameters = slice.parameters;
  args.count = slice.count;
  args.first = slice.first;
  args.rows = rows_;
  args.columns = columns_;
  args.row_gain = row_.gain.data();
  args.column_gain = column_.gain.data();
  args.row_sums = row_.sums.data();
  args.column_sums = column_.sums.data();
  return args;
}

void NormStep::factor(const NormSlice& slice) { factor_sums(factor_args(slice)); }

void NormStep::set_factors() {
  const double fresh = exponential(spec_.beta2_decay * logarithm(static_cast<double>(step_)));
  const auto average = [&](Side& side, std::uint64_t averaged) {
    for (std::size_t i = 0; i < side.mean.size(); ++i) {
      const double mean = side.sums[i] / static_cast<double>(averaged) + spec_.epsilon;
      side.mean[i] = to_float((1 - fresh) * static_cast<double>(side.mean[i]) + fresh * mean);
    }
  };
  average(row_, columns_);
  average(column_, rows_);
  for (std::size_t first = 0; first < row_.mean.size(); first += rows_) {
    double sum = 0;
    for (std::size_t i = 0; i < rows_; ++i) sum += static_cast<double>(row_.mean[first + i]);
    const double mean = sum / static_cast<double>(rows_);
    for (std::size_t i = 0; i < rows_; ++i)
      row_.gain[first + i] = to_float(std::sqrt(mean / static_cast<double>(row_.mean[first + i])));
  }
  for (std::size_t i = 0; i < column_.mean.size(); ++i)
    column_.gain[i] = to_float(1 / std::sqrt(static_cast<double>(column_.mean[i])));
}

LambArgs NormStep::lamb_args(const NormSlice& slice) const {
  return {slice.sums,
          scale_,
          slice.parameters,
          static_cast<float*>(slice.state[0]),
          static_cast<float*>(slice.state[1]),
          slice.count};
}

NormSums NormStep::direction(const NormSlice& slice) const {
  if (has_factors()) return {factor_norm(factor_args(slice)), 0};
  return norms_.lamb_moments(lamb_, lamb_args(slice));
}

void NormStep::set_direction(const NormSums& tensor) {
  if (!has_factors()) {
    lamb_.rate = to_float(-rate_ * ratio(std::sqrt(tensor.second), std::sqrt(tensor.first)));
    return;
  }
  double rate = rate_;
  if (spec_.relative_step) rate = std::min(rate, 1 / std::sqrt(static_cast<double>(step_)));
  if (spec_.scale_parameter) rate *= std::max(spec_.epsilon2, parameter_rms_);
  const double excess = std::sqrt(tensor.first / elements_) / spec_.clip_threshold;
  step_gain_ = to_float(-rate / std::max(1.0, excess));
  decay_gain_ = to_float(-rate * spec_.weight_decay);
}

bool NormStep::apply(const NormSlice& slice) const {
  if (!has_direction()) {
    const void* const gradient = slice.sums;
    UpdateArgs args;
    args.gradients = &gradient;
    args.workers = 1;
    args.parameters = slice.parameters;
    std::copy_n(slice.state, kMaxStatePlanes, args.state);
    args.wire = slice.wire;
    args.wire_dtype = slice.wire_dtype;
    args.count = slice.count;
    args.first_element = slice.first;
    args.scale = scale_;
    return kernels_.update(coefficients_, args);
  }
  if (has_factors())
    factor_apply(factor_args(slice), step_gain_, decay_gain_);
  else
    norms_.lamb_apply(lamb_, lamb_args(slice));
  if (slice.wire != nullptr)
    kernels_.encode(slice.parameters, slice.wire, slice.wire_dtype, slice.count);
  return true;
}

}  // namespace penstock

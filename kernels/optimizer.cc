// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

#include <fmt/format.h>

#include <cfloat>
#include <cmath>

namespace penstock {
namespace {

// False for NaN as well.
bool between(double value, double low, double high) { return value >= low && value <= high; }
bool is_rate(double value) { return between(value, 0, FLT_MAX); }
bool is_average(double value) { return value >= 0 && value < 1; }

Status refuse(std::string_view field, double value, std::string_view rule) {
  return Status(Code::kInvalidArgument,
                fmt::format("optimizer {} is {}, but must be {}", field, value, rule));
}

// 1 − βᵗ by squaring: libm's pow may differ between machines, multiplication does not. The relative
// error is about 2⁻⁵³/(1−β), far below a float's.
double bias_correction(double beta, std::uint64_t step) {
  double power = 1;
  for (double square = beta; step > 0; step >>= 1, square *= square)
    if (step & 1) power *= square;
  return 1 - power;
}

float to_float(double value) { return static_cast<float>(value); }

void fold_momentum(const OptimizerSpec& spec, Coefficients& c) {
  const bool scaled = spec.momentum_form == MomentumForm::kScaledVelocity;
  c.momentum = to_float(spec.momentum);
  c.velocity_gain = scaled ? to_float(-spec.learning_rate) : 1.0F;
  c.step_gain = scaled ? 1.0F : to_float(-spec.learning_rate);
}

void fold_adam(const OptimizerSpec& spec, std::uint64_t step, Coefficients& c) {
  const double first = bias_correction(spec.beta1, step);
  const double root = std::sqrt(bias_correction(spec.beta2, step));
  const bool hat = spec.epsilon_form == EpsilonForm::kHat;
  c.beta1 = to_float(spec.beta1);
  c.one_minus_beta1 = to_float(1 - spec.beta1);
  c.beta2 = to_float(spec.beta2);
  c.one_minus_beta2 = to_float(1 - spec.beta2);
  c.epsilon = to_float(spec.epsilon);
  c.root_gain = hat ? 1.0F : to_float(1 / root);
  c.step_gain = to_float(-spec.learning_rate * (hat ? root : 1.0) / first);
}

}  // namespace

OptimizerSpec default_optimizer(OptimizerKind kind) {
  OptimizerSpec spec;
  spec.kind = kind;
  const bool adaptive = kind == OptimizerKind::kAdam || kind == OptimizerKind::kAdamW;
  spec.learning_rate = adaptive ? 0.001 : 0.01;
  spec.weight_decay = kind == OptimizerKind::kAdamW ? 0.01 : 0.0;
  return spec;
}

Status validate(const OptimizerSpec& spec) {
  const auto kind = static_cast<unsigned>(spec.kind);
  const auto momentum_form = static_cast<unsigned>(spec.momentum_form);
  const auto epsilon_form = static_cast<unsigned>(spec.epsilon_form);
  if (kind >= kOptimizerKinds)
    return refuse("kind", kind, "0 sgd, 1 momentum, 2 nesterov, 3 adam or 4 adamw");
  if (momentum_form > 1) return refuse("momentum_form", momentum_form, "0 or 1");
  if (epsilon_form > 1) return refuse("epsilon_form", epsilon_form, "0 or 1");
  if (!is_rate(spec.learning_rate))
    return refuse("learning_rate", spec.learning_rate, "a float32 of at least 0");
  if (!is_average(spec.momentum)) return refuse("momentum", spec.momentum, "in [0, 1)");
  if (!is_average(spec.beta1)) return refuse("beta1", spec.beta1, "in [0, 1)");
  if (!is_average(spec.beta2)) return refuse("beta2", spec.beta2, "in [0, 1)");
  if (!between(spec.epsilon, FLT_MIN, FLT_MAX))
    return refuse("epsilon", spec.epsilon, "a normal float32 above 0");
  if (!is_rate(spec.weight_decay))
    return refuse("weight_decay", spec.weight_decay, "a float32 of at least 0");
  return {};
}

std::uint32_t state_planes(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd:
      return 0;
    case OptimizerKind::kMomentum:
    case OptimizerKind::kNesterov:
      return 1;
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return 2;
  }
  return 0;
}

std::string_view optimizer_name(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd:
      return "sgd";
    case OptimizerKind::kMomentum:
      return "momentum";
    case OptimizerKind::kNesterov:
      return "nesterov";
    case OptimizerKind::kAdam:
      return "adam";
    case OptimizerKind::kAdamW:
      return "adamw";
  }
  return "?";
}

std::optional<OptimizerKind> parse_optimizer(std::string_view name) {
  for (std::uint32_t i = 0; i < kOptimizerKinds; ++i) {
    const auto kind = static_cast<OptimizerKind>(i);
    if (name == optimizer_name(kind)) return kind;
  }
  return std::nullopt;
}

Coefficients fold(const OptimizerSpec& spec, std::uint64_t step) {
  CHECK(step > 0, "steps count from 1");
  Coefficients c;
  const bool decoupled = spec.kind == OptimizerKind::kAdamW;
  c.l2 = decoupled ? 0.0F : to_float(spec.weight_decay);
  c.decay_gain = decoupled ? to_float(-spec.learning_rate * spec.weight_decay) : 0.0F;
  c.step_gain = to_float(-spec.learning_rate);
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      break;
    case OptimizerKind::kMomentum:
    case OptimizerKind::kNesterov:
      fold_momentum(spec, c);
      break;
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      fold_adam(spec, step, c);
      break;
  }
  return c;
}

}  // namespace penstock

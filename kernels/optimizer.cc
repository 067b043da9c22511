// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "kernels/math/half.h"
#include "transport/base/check.h"
#include "transport/base/random.h"

namespace penstock {
namespace {

// False for NaN as well.
bool between(double value, double low, double high) { return value >= low && value <= high; }
bool is_rate(double value) { return between(value, 0, FLT_MAX); }
bool is_positive(double value) { return between(value, FLT_MIN, FLT_MAX); }
bool is_average(double value) { return value >= 0 && value < 1; }
bool is_decay_exponent(double value) { return value >= -1 && value < 0; }

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

bool is_decoupled(OptimizerKind kind) {
  return kind == OptimizerKind::kAdamW || kind == OptimizerKind::kLion;
}

void fold_momentum(const OptimizerSpec& spec, Coefficients& c) {
  const bool scaled = spec.momentum_form == MomentumForm::kScaledVelocity;
  c.momentum = to_float(spec.momentum);
  c.velocity_gain = scaled ? to_float(-spec.learning_rate) : 1.0F;
  c.step_gain = scaled ? 1.0F : to_float(-spec.learning_rate);
}

void fold_lars(const OptimizerSpec& spec, Coefficients& c) {
  const bool scaled = spec.momentum_form == MomentumForm::kScaledVelocity;
  c.momentum = to_float(spec.momentum);
  c.velocity_gain = scaled ? to_float(spec.learning_rate) : 1.0F;
  c.step_gain = scaled ? -1.0F : to_float(-spec.learning_rate);
}

void fold_betas(const OptimizerSpec& spec, Coefficients& c) {
  c.beta1 = to_float(spec.beta1);
  c.one_minus_beta1 = to_float(1 - spec.beta1);
  c.beta2 = to_float(spec.beta2);
  c.one_minus_beta2 = to_float(1 - spec.beta2);
}

void fold_adam(const OptimizerSpec& spec, std::uint64_t step, Coefficients& c) {
  fold_betas(spec, c);
  const double first = bias_correction(spec.beta1, step);
  const double root = std::sqrt(bias_correction(spec.beta2, step));
  const bool hat = spec.epsilon_form == EpsilonForm::kHat;
  c.epsilon = to_float(spec.epsilon);
  c.root_gain = hat ? 1.0F : to_float(1 / root);
  c.step_gain = to_float(-spec.learning_rate * (hat ? root : 1.0) / first);
}

void fold_epsilon(const OptimizerSpec& spec, Coefficients& c) {
  const bool inside = spec.epsilon_form == EpsilonForm::kInside;
  (inside ? c.inner_epsilon : c.epsilon) = to_float(spec.epsilon);
}

void fold_adamax(const OptimizerSpec& spec, std::uint64_t step, Coefficients& c) {
  fold_betas(spec, c);
  fold_epsilon(spec, c);
  c.step_gain = to_float(-spec.learning_rate / bias_correction(spec.beta1, step));
}

void fold_adaptive(const OptimizerSpec& spec, Coefficients& c) {
  fold_epsilon(spec, c);
  const bool sums = spec.kind == OptimizerKind::kAdaGrad;
  c.beta2 = sums ? 1.0F : to_float(spec.rho);
  c.one_minus_beta2 = sums ? 1.0F : to_float(1 - spec.rho);
  if (c.rule == UpdateRule::kAdaptiveMomentum || c.rule == UpdateRule::kCentredMomentum)
    fold_momentum(spec, c);
}

void fold_ftrl(const OptimizerSpec& spec, Coefficients& c) {
  const bool doubled = spec.ftrl_form == FtrlForm::kDoubled;
  const double offset = doubled ? 2 * spec.lambda2 : spec.beta / spec.learning_rate + spec.lambda2;
  c.inverse_rate = to_float(1 / spec.learning_rate);
  c.lambda1 = to_float(spec.lambda1);
  c.minus_offset = to_float(-offset);
}

UpdateRule rmsprop_rule(const OptimizerSpec& spec) {
  if (spec.momentum > 0)
    return spec.centred ? UpdateRule::kCentredMomentum : UpdateRule::kAdaptiveMomentum;
  return spec.centred ? UpdateRule::kCentred : UpdateRule::kAdaptive;
}

bool has_form(OptimizerKind kind, EpsilonForm form) {
  switch (kind) {
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return form != EpsilonForm::kInside;
    case OptimizerKind::kAdaGrad:
    case OptimizerKind::kDecayedAdaGrad:
    case OptimizerKind::kRmsProp:
    case OptimizerKind::kAdaMax:
      return form != EpsilonForm::kHat;
    case OptimizerKind::kLars:
    case OptimizerKind::kLamb:
    case OptimizerKind::kAdaFactor:
      return form == EpsilonForm::kOutside;
    default:
      return true;  // unused
  }
}

constexpr std::string_view kNames[kOptimizerKinds] = {
    "sgd",    "momentum", "nesterov", "adam", "adamw", "adagrad",   "decayed_adagrad", "rmsprop",
    "adamax", "ftrl",     "lion",     "lars", "lamb",  "adafactor", "assign"};

Status validate_forms(const OptimizerSpec& spec) {
  const auto kind = static_cast<unsigned>(spec.kind);
  const auto momentum_form = static_cast<unsigned>(spec.momentum_form);
  const auto epsilon_form = static_cast<unsigned>(spec.epsilon_form);
  const auto ftrl_form = static_cast<unsigned>(spec.ftrl_form);
  if (kind >= kOptimizerKinds)
    return refuse("kind", kind, fmt::format("below {}", kOptimizerKinds));
  if (momentum_form > 1) return refuse("momentum_form", momentum_form, "0 or 1");
  if (epsilon_form > 2) return refuse("epsilon_form", epsilon_form, "0, 1 or 2");
  if (!has_form(spec.kind, spec.epsilon_form))
    return refuse("epsilon_form", epsilon_form,
                  fmt::format("0 (outside) or {} for {}",
                              spec.epsilon_form == EpsilonForm::kHat ? "2 (inside)" : "1 (hat)",
                              optimizer_name(spec.kind)));
  if (ftrl_form > 1) return refuse("ftrl_form", ftrl_form, "0 or 1");
  const auto state_dtype = static_cast<unsigned>(spec.state_dtype);
  if (state_dtype > 1) return refuse("state_dtype", state_dtype, "0 (fp32) or 1 (bf16)");
  return {};
}

Status validate_rate_is_constant(const OptimizerSpec& spec) {
  const bool ftrl = spec.kind == OptimizerKind::kFtrl;
  const bool constant = spec.schedule.kind == ScheduleKind::kConstant && spec.schedule.warmup == 0;
  if (constant || !(ftrl || spec.kind == OptimizerKind::kAssign)) return {};
  return Status(Code::kInvalidArgument,
                fmt::format("optimizer schedule is {}, but {}", schedule_name(spec.schedule.kind),
                            ftrl ? "ftrl takes none: its state contains the learning rate"
                                 : "assign takes none: it has no learning rate"));
}

std::uint32_t rounding_key(std::uint64_t seed, std::uint64_t step) {
  return static_cast<std::uint32_t>(SeededRandom::mix(SeededRandom::mix(seed + 1) + step));
}

}  // namespace

OptimizerSpec default_optimizer(OptimizerKind kind) {
  OptimizerSpec spec;
  spec.kind = kind;
  switch (kind) {
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdaMax:
      spec.learning_rate = 0.001;
      break;
    case OptimizerKind::kAdamW:
      spec.learning_rate = 0.001;
      spec.weight_decay = 0.01;
      break;
    case OptimizerKind::kAdaGrad:
      spec.epsilon = 1e-10;
      break;
    case OptimizerKind::kDecayedAdaGrad:
      spec.rho = 0.95;
      spec.epsilon = 1e-6;
      break;
    case OptimizerKind::kRmsProp:
      spec.rho = 0.99;
      spec.momentum = 0;
      break;
    case OptimizerKind::kFtrl:
      spec.learning_rate = 0.1;
      spec.lambda1 = 0.01;
      spec.beta = 1;
      break;
    case OptimizerKind::kLion:
      spec.learning_rate = 0.0001;
      spec.beta2 = 0.99;
      break;
    case OptimizerKind::kLars:
      spec.momentum_form = MomentumForm::kScaledVelocity;
      spec.weight_decay = 0.0005;
      spec.epsilon = 0;
      break;
    case OptimizerKind::kLamb:
      spec.learning_rate = 0.001;
      spec.weight_decay = 0.01;
      spec.epsilon = 1e-6;
      break;
    case OptimizerKind::kAdaFactor:
      spec.epsilon = 1e-30;
      break;
    default:
      break;
  }
  return spec;
}

Status validate(const OptimizerSpec& spec) {
  PENSTOCK_RETURN_IF_ERROR(validate_forms(spec));
  struct Field {
    std::string_view name;
    double value;
    bool (*allowed)(double);
    std::string_view rule;
  };
  constexpr std::string_view kRate = "a float32 of at least 0", kAverage = "in [0, 1)",
                             kPositive = "a normal float32 above 0";
  const bool lars = spec.kind == OptimizerKind::kLars;  // its ε stands beside a norm
  const Field fields[] = {
      {"learning_rate", spec.learning_rate, is_rate, kRate},
      {"momentum", spec.momentum, is_average, kAverage},
      {"beta1", spec.beta1, is_average, kAverage},
      {"beta2", spec.beta2, is_average, kAverage},
      {"rho", spec.rho, is_average, kAverage},
      {"epsilon", spec.epsilon, lars ? is_rate : is_positive, lars ? kRate : kPositive},
      {"weight_decay", spec.weight_decay, is_rate, kRate},
      {"clip", spec.clip, is_rate, kRate},
      {"lambda1", spec.lambda1, is_rate, kRate},
      {"lambda2", spec.lambda2, is_rate, kRate},
      {"beta", spec.beta, is_rate, kRate},
      {"initial_accumulator", spec.initial_accumulator, is_rate, kRate},
      {"l1", spec.l1, is_rate, kRate},
      {"compensation", spec.compensation, is_rate, kRate},
      {"trust", spec.trust, is_positive, kPositive},
      {"clip_norm", spec.clip_norm, is_rate, kRate},
      {"clip_global_norm", spec.clip_global_norm, is_rate, kRate},
      {"beta2_decay", spec.beta2_decay, is_decay_exponent, "in [-1, 0)"},
      {"epsilon2", spec.epsilon2, is_rate, kRate},
      {"clip_threshold", spec.clip_threshold, is_positive, kPositive},
  };
  for (const Field& field : fields)
    if (!field.allowed(field.value)) return refuse(field.name, field.value, field.rule);
  if (spec.clip_norm > 0 && spec.clip_global_norm > 0)
    return refuse("clip_global_norm", spec.clip_global_norm,
                  fmt::format("0 where clip_norm is set (to {})", spec.clip_norm));
  if (spec.kind == OptimizerKind::kLamb || spec.kind == OptimizerKind::kAdaFactor) {
    const std::string none = fmt::format("0 for {}", optimizer_name(spec.kind));
    if (spec.l1 > 0) return refuse("l1", spec.l1, none);
    if (spec.compensation > 0) return refuse("compensation", spec.compensation, none);
    if (spec.state_dtype != StateDType::kFloat32)
      return refuse("state_dtype", static_cast<unsigned>(spec.state_dtype),
                    fmt::format("0 (fp32) for {}", optimizer_name(spec.kind)));
  }
  if (spec.kind == OptimizerKind::kFtrl && !is_positive(spec.learning_rate))
    return refuse("learning_rate", spec.learning_rate, "a normal float32 above 0 for ftrl");
  if (spec.kind == OptimizerKind::kFtrl && spec.l1 > 0)
    return refuse("l1", spec.l1, "0 for ftrl, whose L1 penalty is lambda1");
  if (spec.kind == OptimizerKind::kAssign && spec.weight_decay > 0)
    return refuse("weight_decay", spec.weight_decay, "0 for assign");
  PENSTOCK_RETURN_IF_ERROR(validate_rate_is_constant(spec));
  return validate(spec.schedule);
}

std::string_view optimizer_name(OptimizerKind kind) {
  const auto index = static_cast<std::uint32_t>(kind);
  return index < kOptimizerKinds ? kNames[index] : "?";
}

std::optional<OptimizerKind> parse_optimizer(std::string_view name) {
  for (std::uint32_t i = 0; i < kOptimizerKinds; ++i)
    if (name == kNames[i]) return static_cast<OptimizerKind>(i);
  return std::nullopt;
}

UpdateRule rule_of(const OptimizerSpec& spec) {
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return UpdateRule::kSgd;
    case OptimizerKind::kMomentum:
      return UpdateRule::kMomentum;
    case OptimizerKind::kNesterov:
      return UpdateRule::kNesterov;
    case OptimizerKind::kAdam:
      return UpdateRule::kAdam;
    case OptimizerKind::kAdamW:
      return UpdateRule::kAdamW;
    case OptimizerKind::kAdaGrad:
    case OptimizerKind::kDecayedAdaGrad:
      return UpdateRule::kAdaptive;
    case OptimizerKind::kRmsProp:
      return rmsprop_rule(spec);
    case OptimizerKind::kAdaMax:
      return UpdateRule::kAdaMax;
    case OptimizerKind::kFtrl:
      return UpdateRule::kFtrl;
    case OptimizerKind::kLion:
      return UpdateRule::kLion;
    case OptimizerKind::kLars:
      return UpdateRule::kMomentum;
    case OptimizerKind::kLamb:
      return UpdateRule::kAdam;  // its state planes
    case OptimizerKind::kAdaFactor:
      return UpdateRule::kSgd;  // its state is not by element
    case OptimizerKind::kAssign:
      return UpdateRule::kAssign;
  }
  return UpdateRule::kSgd;
}

float initial_state(const OptimizerSpec& spec, std::uint32_t plane) {
  const bool has = spec.kind == OptimizerKind::kAdaGrad || spec.kind == OptimizerKind::kFtrl;
  return has && plane == 0 ? to_float(spec.initial_accumulator) : 0.0F;
}

std::uint32_t state_bytes(const OptimizerSpec& spec, std::uint32_t plane) {
  return plane < state_planes(rule_of(spec)) ? state_bytes(spec.state_dtype) : sizeof(float);
}

std::uint32_t state_bytes(const OptimizerSpec& spec) {
  std::uint32_t bytes = 0;
  for (std::uint32_t plane = 0; plane < state_planes(spec); ++plane)
    bytes += state_bytes(spec, plane);
  return bytes;
}

void initialize_state(const OptimizerSpec& spec, std::uint32_t plane, const float* parameters,
                      std::size_t count, void* state) {
  const float initial = initial_state(spec, plane);
  if (plane >= state_planes(rule_of(spec)))
    std::copy_n(parameters, count, static_cast<float*>(state));
  else if (spec.state_dtype == StateDType::kFloat32)
    std::fill_n(static_cast<float*>(state), count, initial);
  else
    std::fill_n(static_cast<std::uint16_t*>(state), count, float_to_bf16(initial));
}

Coefficients fold(const OptimizerSpec& declared, std::uint64_t step) {
  OptimizerSpec spec = declared;
  spec.learning_rate = learning_rate_at(declared.schedule, declared.learning_rate, step);
  Coefficients c;
  c.rule = rule_of(spec);
  if (spec.clip > 0) c.clip = to_float(spec.clip);
  c.compensation = to_float(spec.compensation);
  c.l1 = to_float(spec.l1);
  c.state_dtype = spec.state_dtype;
  if (c.state_dtype == StateDType::kBfloat16)
    c.rounding_key = rounding_key(spec.rounding_seed, step);
  const bool decoupled = is_decoupled(spec.kind);
  c.l2 = decoupled ? 0.0F : to_float(spec.weight_decay);
  c.decay_gain = decoupled ? to_float(-spec.learning_rate * spec.weight_decay) : 0.0F;
  c.step_gain = to_float(-spec.learning_rate);
  switch (spec.kind) {
    case OptimizerKind::kSgd:
    case OptimizerKind::kAssign:
      break;
    case OptimizerKind::kMomentum:
    case OptimizerKind::kNesterov:
      fold_momentum(spec, c);
      break;
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      fold_adam(spec, step, c);
      break;
    case OptimizerKind::kAdaGrad:
    case OptimizerKind::kDecayedAdaGrad:
    case OptimizerKind::kRmsProp:
      fold_adaptive(spec, c);
      break;
    case OptimizerKind::kAdaMax:
      fold_adamax(spec, step, c);
      break;
    case OptimizerKind::kFtrl:
      fold_ftrl(spec, c);
      break;
    case OptimizerKind::kLion:
      fold_betas(spec, c);
      break;
    case OptimizerKind::kLars:
      fold_lars(spec, c);
      break;
    case OptimizerKind::kLamb:
    case OptimizerKind::kAdaFactor:
      CHECK(false, "{} is folded by fold_lamb or fold_factor", optimizer_name(spec.kind));
  }
  return c;
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which rule turns a summed gradient into new parameters, and its numbers. Frameworks disagree on
// some rules; each convention has a name here and the other one is offered too. The rules
// themselves, with sources and traffic, are in math/optimizers-inl.h.

#include <cstdint>
#include <optional>
#include <string_view>

#include "transport/base/status.h"

namespace penstock {

// The values go on the wire; never renumber.
enum class OptimizerKind : std::uint8_t {
  kSgd = 0,
  kMomentum = 1,
  kNesterov = 2,
  kAdam = 3,
  kAdamW = 4,
};
inline constexpr std::uint32_t kOptimizerKinds = 5;

// How momentum and nesterov keep their velocity v. A change of the learning rate acts at once in
// the first form and through v, slowly, in the second.
enum class MomentumForm : std::uint8_t {
  kVelocity = 0,  // v = μ·v + g;    p −= lr·v  (nesterov: p −= lr·(g + μ·v))   PyTorch, Paddle
  kScaledVelocity = 1,  // v = μ·v − lr·g; p += v     (nesterov: p += μ·v − lr·g)     MXNet
};

// Where adam and adamw add ε; they differ while β2ᵗ is not yet small.
enum class EpsilonForm : std::uint8_t {
  kOutside = 0,  // p −= lr/(1−β1ᵗ) · m / (√v/√(1−β2ᵗ) + ε)       PyTorch, apex
  kHat = 1,  // p −= lr·√(1−β2ᵗ)/(1−β1ᵗ) · m / (√v + ε)       MXNet, MindSpore, seed-era Paddle
};

// Plain data; travels with a tensor's declaration. Fields a kind does not use must still be valid.
// weight_decay: for sgd, momentum, nesterov and adam it is an L2 penalty, added to the gradient
// before anything else (g += wd·p). For adamw it is decoupled (p −= lr·wd·p, beside the step).
struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kSgd;
  MomentumForm momentum_form = MomentumForm::kVelocity;
  EpsilonForm epsilon_form = EpsilonForm::kOutside;
  double learning_rate = 0.01;
  double momentum = 0.9;  // μ
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;

  friend bool operator==(const OptimizerSpec&, const OptimizerSpec&) = default;
};

// The usual numbers of each kind: learning rate 0.01 (sgd, momentum, nesterov) or 0.001 (adam,
// adamw), μ 0.9, β 0.9 and 0.999, ε 1e-8, decay 0 (adamw 0.01).
OptimizerSpec default_optimizer(OptimizerKind kind);

// kInvalidArgument naming the first bad field and its value: a NaN, an infinity, a negative rate, a
// β or μ outside [0, 1), an ε that is not a normal positive float32, an unknown kind or form.
Status validate(const OptimizerSpec& spec);

// Float32 arrays as long as the parameters that the rule keeps between steps; they start at zero.
// sgd 0; momentum, nesterov 1 (v); adam, adamw 2 (m, v).
std::uint32_t state_planes(OptimizerKind kind);
inline constexpr std::uint32_t kMaxStatePlanes = 2;

// "sgd", "momentum", "nesterov", "adam", "adamw".
std::string_view optimizer_name(OptimizerKind kind);
std::optional<OptimizerKind> parse_optimizer(std::string_view name);

// What the kernels need of a spec at one step: folded in double, rounded once to float. Signs are
// folded in too, so that every rule only adds.
struct Coefficients {
  float l2 = 0;             // g += l2·p, before anything else
  float step_gain = 0;      // p += step_gain·(what the rule makes of g)
  float momentum = 0;       // v = momentum·v + velocity_gain·g
  float velocity_gain = 1;  // 1 or −lr
  float beta1 = 0, one_minus_beta1 = 1;
  float beta2 = 0, one_minus_beta2 = 1;
  float root_gain = 1;  // denominator = root_gain·√v + epsilon
  float epsilon = 0;
  float decay_gain = 0;  // p += decay_gain·p, adamw: −lr·wd

  friend bool operator==(const Coefficients&, const Coefficients&) = default;
};

// `step` counts the updates of the slice including this one, from 1. The spec is valid.
Coefficients fold(const OptimizerSpec& spec, std::uint64_t step);

}  // namespace penstock

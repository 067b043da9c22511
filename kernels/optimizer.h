// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which rule turns a summed gradient into new parameters, and its numbers. Frameworks disagree on
// some rules; each convention has a name here and the other one is offered too. The rules
// themselves, with sources and traffic, are in math/optimizers-inl.h.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/coefficients.h"
#include "kernels/schedule.h"
#include "transport/base/status.h"

namespace penstock {

// The values go on the wire; never renumber.
enum class OptimizerKind : std::uint8_t {
  kSgd = 0,
  kMomentum = 1,
  kNesterov = 2,
  kAdam = 3,
  kAdamW = 4,
  kAdaGrad = 5,
  kDecayedAdaGrad = 6,
  kRmsProp = 7,
  kAdaMax = 8,
  kFtrl = 9,
  kLion = 10,
  kLars = 11,
  kLamb = 12,
  kAdaFactor = 13,
  kAssign = 14,  // p = g: an all-reduce
};
inline constexpr std::uint32_t kOptimizerKinds = 15;

// Their rules themselves need norms of the whole tensor: see norm_step.h.
constexpr bool is_by_norms(OptimizerKind kind) {
  return kind >= OptimizerKind::kLars && kind <= OptimizerKind::kAdaFactor;
}

// How momentum, nesterov and rmsprop keep their velocity v; for rmsprop g is the scaled gradient. A
// change of the learning rate acts at once in the first form and through v, slowly, in the second.
// For lars g is (g + wd·p) and lr is lr·ratio in the second form (You et al. 2017, Paddle); in the
// first, v takes ratio·(g + wd·p) and lr acts at once (apex's LARC).
enum class MomentumForm : std::uint8_t {
  kVelocity = 0,  // v = μ·v + g;    p −= lr·v  (nesterov: p −= lr·(g + μ·v))   PyTorch, Paddle
  kScaledVelocity = 1,  // v = μ·v − lr·g; p += v     (nesterov: p += μ·v − lr·g)     MXNet
};

// Where ε is added.
enum class EpsilonForm : std::uint8_t {
  // adam, adamw: p −= lr/(1−β1ᵗ) · m / (√v/√(1−β2ᵗ) + ε)      PyTorch, apex
  // adagrad, decayed_adagrad, rmsprop: √s + ε                 PyTorch, MXNet, Paddle's adagrad
  // adamax: max(β2·u, |g| + ε)                                PyTorch
  kOutside = 0,
  // adam, adamw: p −= lr·√(1−β2ᵗ)/(1−β1ᵗ) · m / (√v + ε)      MXNet, MindSpore, seed-era Paddle
  kHat = 1,
  // adagrad, decayed_adagrad, rmsprop: √(s + ε)               Paddle's rmsprop, MXNet's centred one
  // adamax: max(β2·u + ε, |g|)                                Paddle
  kInside = 2,
};

// What of the denominator does not depend on the gradients: √n/lr + c.
enum class FtrlForm : std::uint8_t {
  kMcMahan = 0,  // c = β/lr + λ2     McMahan et al. 2013; MXNet, whose wd is λ2
  kDoubled = 1,  // c = 2·λ2          MindSpore, Paddle (which adds 1e-10 to λ1 and λ2); β unused
};

// Plain data; travels with a tensor's declaration. Fields a kind does not use must still be valid.
// weight_decay: an L2 penalty, added to the gradient before anything else (g += wd·p); for adamw
// and lion it is decoupled (p −= lr·wd·p, beside the step).
struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kSgd;
  MomentumForm momentum_form = MomentumForm::kVelocity;
  EpsilonForm epsilon_form = EpsilonForm::kOutside;
  FtrlForm ftrl_form = FtrlForm::kMcMahan;
  bool centred = false;  // rmsprop: by the variance of the gradient, s − a²
  double learning_rate = 0.01;
  double momentum = 0.9;  // μ; rmsprop keeps no velocity when it is 0
  double beta1 = 0.9;
  double beta2 = 0.999;
  double rho = 0.9;  // ρ of decayed_adagrad and rmsprop
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  double clip = 0.0;     // bound on each element of the scaled sum, before decay; 0: none
  double lambda1 = 0.0;  // ftrl's λ1
  double lambda2 = 0.0;  // ftrl's λ2
  double beta = 0.0;     // ftrl's β
  double initial_accumulator = 0.0;  // of adagrad's s and ftrl's n
  Schedule schedule;                 // of the learning rate; ftrl takes none
  // An L1 penalty, added to the gradient as l1·sign(p); ftrl has λ1 instead.
  double l1 = 0.0;
  // λ of DC-ASGD, Zheng et al. 2017: g += λ·g²·(p − seen), after the clip and before any penalty.
  // As in MXNet's DCASGD, `seen` is one state plane for all workers, the parameters before the
  // last update; at first the initial values.
  double compensation = 0.0;
  // Of the rule's planes; bf16 ones are rounded stochastically, by bits that depend on
  // rounding_seed, the update, the plane and the element. Parameters and `seen` stay float32.
  StateDType state_dtype = StateDType::kFloat32;
  std::uint64_t rounding_seed = 0;
  double trust = 0.001;  // lars's coefficient c
  // Bounds on the L2 norm of the scaled sum, after `clip`; 0: none. At most one of them.
  double clip_norm = 0.0;         // of this tensor: g *= c/‖g‖ where ‖g‖ > c
  double clip_global_norm = 0.0;  // of all tensors of the declaration that have one, together
  double beta2_decay = -0.8;      // adafactor: β2ᵗ = 1 − t^beta2_decay
  double epsilon2 = 1e-3;         // adafactor: the least RMS(p) that scales a step
  double clip_threshold = 1.0;    // adafactor: bound on the RMS of the step before the rate
  bool relative_step = true;      // adafactor: the rate is at most 1/√t
  bool scale_parameter = true;    // adafactor: the rate is times max(epsilon2, RMS(p))

  friend bool operator==(const OptimizerSpec&, const OptimizerSpec&) = default;
};

// The usual numbers of each kind: learning rate 0.01 (adam, adamw, adamax 0.001, ftrl 0.1, lion
// 0.0001), μ 0.9 (rmsprop 0), β 0.9 and 0.999 (lion 0.99), ρ 0.95 (rmsprop 0.99), ε 1e-8 (adagrad
// 1e-10, decayed_adagrad 1e-6), decay 0 (adamw 0.01), ftrl's λ1 0.01, λ2 0 and β 1. lars: scaled
// velocity, decay 0.0005, ε 0; lamb: rate 0.001, decay 0.01, ε 1e-6; adafactor: ε 1e-30. assign
// uses none of them.
OptimizerSpec default_optimizer(OptimizerKind kind);

// kInvalidArgument naming the first bad field and its value: a NaN, an infinity, a negative rate, a
// β, ρ or μ outside [0, 1), an ε that is not a normal positive float32, an unknown kind or form, a
// form the kind does not have, a rate of 0, an L1 penalty or a schedule for ftrl, a decay or a
// schedule for assign, both norms clipped, for lamb and adafactor an L1 penalty, compensation or
// bf16 state.
Status validate(const OptimizerSpec& spec);

// "sgd", "momentum", "nesterov", "adam", "adamw", "adagrad", "decayed_adagrad", "rmsprop",
// "adamax", "ftrl", "lion", "lars", "lamb", "adafactor", "assign".
std::string_view optimizer_name(OptimizerKind kind);
std::optional<OptimizerKind> parse_optimizer(std::string_view name);

UpdateRule rule_of(const OptimizerSpec& spec);

// Arrays that the optimizer keeps between steps: the rule's, see state_planes(UpdateRule), then
// `seen` with compensation.
inline std::uint32_t state_planes(const OptimizerSpec& spec) {
  return state_planes(rule_of(spec)) + (spec.compensation > 0 ? 1 : 0);
}

// Bytes of an element of a plane, and of one element of all planes.
std::uint32_t state_bytes(const OptimizerSpec& spec, std::uint32_t plane);
std::uint32_t state_bytes(const OptimizerSpec& spec);

// What a plane of the rule holds before the first step: 0, or initial_accumulator in the first
// plane of adagrad and ftrl.
float initial_state(const OptimizerSpec& spec, std::uint32_t plane);

// Fills a plane, `seen` included, for `count` elements with these initial parameters.
void initialize_state(const OptimizerSpec& spec, std::uint32_t plane, const float* parameters,
                      std::size_t count, void* state);

// The update of an element depends on norms of the whole tensor, or of several: see norm_step.h.
inline bool needs_norms(const OptimizerSpec& spec) {
  return is_by_norms(spec.kind) || spec.clip_norm > 0 || spec.clip_global_norm > 0;
}

// `step` counts the updates of the slice including this one, from 1. The spec is valid. Leaves out
// what needs norms: lars comes as if its ratio were 1; lamb and adafactor have no such rule.
Coefficients fold(const OptimizerSpec& spec, std::uint64_t step);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/oracle.h"

#include <cmath>

namespace penstock::test {
namespace {

Measured term(double value) { return {value, std::abs(value)}; }
Measured operator+(Measured a, Measured b) { return {a.value + b.value, a.size + b.size}; }
Measured operator-(Measured a, Measured b) { return {a.value - b.value, a.size + b.size}; }
Measured operator*(double factor, Measured a) {
  return {factor * a.value, std::abs(factor) * a.size};
}
Measured operator/(Measured a, Measured b) {
  const double value = a.value / b.value;
  return {value, a.size / std::abs(b.value) + std::abs(value) * b.size / std::abs(b.value)};
}
Measured squared(Measured a) { return {a.value * a.value, a.size * a.size}; }
Measured root(Measured a) {
  const double value = std::sqrt(a.value);
  return {value, a.value > 0 ? value + a.size / value : value};
}

// PyTorch and Paddle: v ← μv + g, p ← p − ηv, or with nesterov p ← p − η(g + μv).
// MXNet: v ← μv − ηg, p ← p + v, or with nesterov p ← p + μv − ηg.
OracleStep momentum_step(const OptimizerSpec& spec, Measured p, Measured v, Measured g) {
  const double mu = spec.momentum;
  const double rate = spec.learning_rate;
  const bool nesterov = spec.kind == OptimizerKind::kNesterov;
  OracleStep out;
  if (spec.momentum_form == MomentumForm::kVelocity) {
    v = mu * v + g;
    p = nesterov ? p - rate * (g + mu * v) : p - rate * v;
  } else {
    v = mu * v - rate * g;
    p = nesterov ? p + (mu * v - rate * g) : p + v;
  }
  out.parameter = p;
  out.state[0] = v;
  return out;
}

// Kingma & Ba: m ← β1 m + (1−β1) g, v ← β2 v + (1−β2) g²; m̂, v̂ corrected by 1−βᵗ;
// p ← p − η m̂/(√v̂ + ε), or with ε-hat p − η √(1−β2ᵗ)/(1−β1ᵗ) m/(√v + ε).
// Loshchilov & Hutter add η·λ·p to the step of adamw.
OracleStep adam_step(const OptimizerSpec& spec, std::uint64_t step, Measured p, Measured m,
                     Measured v, Measured g) {
  const double t = static_cast<double>(step);
  const double first = 1 - std::pow(spec.beta1, t);
  const double second = 1 - std::pow(spec.beta2, t);
  m = spec.beta1 * m + (1 - spec.beta1) * g;
  v = spec.beta2 * v + (1 - spec.beta2) * Measured{g.value * g.value, g.size * g.size};
  double ratio;
  if (spec.epsilon_form == EpsilonForm::kOutside)
    ratio = spec.learning_rate / first / (std::sqrt(v.value / second) + spec.epsilon);
  else
    ratio = spec.learning_rate * std::sqrt(second) / first / (std::sqrt(v.value) + spec.epsilon);
  // Where g itself is a difference, v's own error counts as well.
  const double doubt = v.value > 0 ? v.size / v.value : 1;
  const Measured update = {ratio * m.value, ratio * m.size * doubt};
  OracleStep out;
  out.state[0] = m;
  out.state[1] = v;
  out.parameter = p - update;
  if (spec.kind == OptimizerKind::kAdamW)
    out.parameter = out.parameter - spec.learning_rate * spec.weight_decay * p;
  return out;
}

// Kingma & Ba, AdaMax: u ← max(β2 u, |g| + ε) (PyTorch) or max(β2 u + ε, |g|) (Paddle);
// p ← p − η/(1−β1ᵗ) m/u.
OracleStep adamax_step(const OptimizerSpec& spec, std::uint64_t step, Measured p, Measured m,
                       Measured u, Measured g) {
  const bool inside = spec.epsilon_form == EpsilonForm::kInside;
  const Measured epsilon = term(spec.epsilon);
  const Measured size = {std::abs(g.value), g.size};
  m = spec.beta1 * m + (1 - spec.beta1) * g;
  u = spec.beta2 * u;
  const Measured decayed = inside ? u + epsilon : u;
  const Measured fresh = inside ? size : size + epsilon;
  u = decayed.value > fresh.value ? decayed : fresh;
  OracleStep out;
  out.parameter =
      p - spec.learning_rate / (1 - std::pow(spec.beta1, static_cast<double>(step))) * (m / u);
  out.state[0] = m;
  out.state[1] = u;
  return out;
}

// Duchi et al.: s ← s + g². Paddle's decayed form and rmsprop: s ← ρ s + (1−ρ) g², centred by the
// average a of g: s − a². Then r = g/(√s + ε) or g/√(s + ε); p ← p − η r, or by a velocity of r as
// in momentum_step.
OracleStep adaptive_step(const OptimizerSpec& spec, Measured p, const double* state, Measured g) {
  const bool sums = spec.kind == OptimizerKind::kAdaGrad;
  const bool rmsprop = spec.kind == OptimizerKind::kRmsProp;
  OracleStep out;
  std::uint32_t plane = 0;
  const Measured s =
      sums ? term(state[0]) + squared(g) : spec.rho * term(state[0]) + (1 - spec.rho) * squared(g);
  out.state[plane++] = s;
  Measured spread = s;
  if (rmsprop && spec.centred) {
    const Measured a = spec.rho * term(state[1]) + (1 - spec.rho) * g;
    out.state[plane++] = a;
    spread = s - squared(a);
    if (spread.value < 0) spread.value = 0;
  }
  const Measured epsilon = term(spec.epsilon);
  const bool inside = spec.epsilon_form == EpsilonForm::kInside;
  const Measured r = g / (inside ? root(spread + epsilon) : root(spread) + epsilon);
  out.parameter = p - spec.learning_rate * r;
  if (rmsprop && spec.momentum > 0) {
    const OracleStep moved = momentum_step(spec, p, term(state[plane]), r);
    out.parameter = moved.parameter;
    out.state[plane] = moved.state[0];
  }
  return out;
}

// McMahan et al. 2013, algorithm 1: σ = (√(n + g²) − √n)/η; z ← z + g − σ p; n ← n + g²;
// p = 0 if |z| ≤ λ1, else −(z − sgn(z) λ1)/((β + √n)/η + λ2); MindSpore and Paddle have √n/η + 2
// λ2.
OracleStep ftrl_step(const OptimizerSpec& spec, Measured p, Measured n, Measured z, Measured g) {
  const Measured sum = n + squared(g);
  const Measured sigma = (1 / spec.learning_rate) * (root(sum) - root(n));
  const Measured moved = {sigma.value * p.value, sigma.size * p.size};
  OracleStep out;
  out.state[0] = sum;
  out.state[1] = z + g - moved;
  const double z_now = out.state[1].value;
  const double offset = spec.ftrl_form == FtrlForm::kDoubled
                            ? 2 * spec.lambda2
                            : spec.beta / spec.learning_rate + spec.lambda2;
  const Measured beyond = out.state[1] - term(z_now > 0 ? spec.lambda1 : -spec.lambda1);
  out.parameter = -1 * (beyond / ((1 / spec.learning_rate) * root(sum) + term(offset)));
  // On the edge of the threshold either branch is right.
  if (std::abs(z_now) <= spec.lambda1) out.parameter = {0, out.parameter.size};
  return out;
}

// Chen et al. 2023: p ← p − η (sgn(β1 m + (1−β1) g) + λ p); m ← β2 m + (1−β2) g.
OracleStep lion_step(const OptimizerSpec& spec, Measured p, Measured m, Measured g) {
  const double c = (spec.beta1 * m + (1 - spec.beta1) * g).value;
  const double sign = c > 0 ? 1 : c < 0 ? -1 : 0;
  OracleStep out;
  out.parameter = p - spec.learning_rate * (term(sign) + spec.weight_decay * p);
  out.state[0] = spec.beta2 * m + (1 - spec.beta2) * g;
  return out;
}

}  // namespace

OracleStep oracle_step(const OptimizerSpec& spec, std::uint64_t step, double parameter,
                       const double* state, double gradient) {
  if (spec.clip > 0 && std::abs(gradient) > spec.clip)
    gradient = std::copysign(spec.clip, gradient);
  const Measured p = term(parameter);
  Measured g = term(gradient);
  const std::uint32_t seen = state_planes(rule_of(spec));
  if (spec.compensation > 0)  // Zheng et al. 2017: g + λ g² (w − w_seen)
    g = g + spec.compensation * gradient * gradient * (p - term(state[seen]));
  if (spec.l1 > 0 && parameter != 0) g = g + term(parameter > 0 ? spec.l1 : -spec.l1);
  if (spec.kind != OptimizerKind::kAdamW && spec.kind != OptimizerKind::kLion)
    g = g + spec.weight_decay * p;
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return {p - spec.learning_rate * g, {}};
    case OptimizerKind::kMomentum:
    case OptimizerKind::kNesterov:
      return momentum_step(spec, p, term(state[0]), g);
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return adam_step(spec, step, p, term(state[0]), term(state[1]), g);
    case OptimizerKind::kAdaMax:
      return adamax_step(spec, step, p, term(state[0]), term(state[1]), g);
    case OptimizerKind::kAdaGrad:
    case OptimizerKind::kDecayedAdaGrad:
    case OptimizerKind::kRmsProp:
      return adaptive_step(spec, p, state, g);
    case OptimizerKind::kFtrl:
      return ftrl_step(spec, p, term(state[0]), term(state[1]), g);
    case OptimizerKind::kLion:
      return lion_step(spec, p, term(state[0]), g);
    case OptimizerKind::kAssign:
      return {g, {}};
    default:  // see norm_oracle.h
      break;
  }
  return {};
}

}  // namespace penstock::test

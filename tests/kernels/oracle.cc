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

}  // namespace

OracleStep oracle_step(const OptimizerSpec& spec, std::uint64_t step, double parameter,
                       const double* state, double gradient) {
  const Measured p = term(parameter);
  Measured g = term(gradient);
  if (spec.kind != OptimizerKind::kAdamW) g = g + spec.weight_decay * p;
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return {p - spec.learning_rate * g, {}};
    case OptimizerKind::kMomentum:
    case OptimizerKind::kNesterov:
      return momentum_step(spec, p, term(state[0]), g);
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return adam_step(spec, step, p, term(state[0]), term(state[1]), g);
  }
  return {};
}

}  // namespace penstock::test

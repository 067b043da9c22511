// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/norm_oracle.h"

#include <algorithm>
#include <cmath>

#include "tests/kernels/oracle.h"

namespace penstock::test {
namespace {

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

// You et al. 2017, algorithm 1: λ = c·‖w‖/(‖g‖ + β‖w‖); v ← μ v + γ λ (g + β w); w ← w − v.
// apex's LARC multiplies g + β w by λ before an ordinary momentum step of rate γ.
void lars_step(const OptimizerSpec& spec, OracleTensor& t, const std::vector<double>& g) {
  const double w_norm = norm(t.parameters), g_norm = norm(g);
  double lambda = 1;
  if (w_norm > 0 && g_norm > 0)
    lambda = spec.trust * w_norm / (g_norm + spec.weight_decay * w_norm + spec.epsilon);
  const bool paper = spec.momentum_form == MomentumForm::kScaledVelocity;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double decayed = lambda * (g[i] + spec.weight_decay * t.parameters[i]);
    t.first[i] = spec.momentum * t.first[i] + (paper ? spec.learning_rate : 1) * decayed;
    t.parameters[i] -= (paper ? 1 : spec.learning_rate) * t.first[i];
  }
}

// You et al. 2020, algorithm 2, with φ the identity.
void lamb_step(const OptimizerSpec& spec, std::uint64_t step, OracleTensor& t,
               const std::vector<double>& g) {
  const auto time = static_cast<double>(step);
  std::vector<double> u(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) {
    t.first[i] = spec.beta1 * t.first[i] + (1 - spec.beta1) * g[i];
    t.second[i] = spec.beta2 * t.second[i] + (1 - spec.beta2) * g[i] * g[i];
    const double m = t.first[i] / (1 - std::pow(spec.beta1, time));
    const double v = t.second[i] / (1 - std::pow(spec.beta2, time));
    u[i] = m / (std::sqrt(v) + spec.epsilon) + spec.weight_decay * t.parameters[i];
  }
  const double w_norm = norm(t.parameters), u_norm = norm(u);
  const double ratio = w_norm > 0 && u_norm > 0 ? w_norm / u_norm : 1;
  for (std::size_t i = 0; i < g.size(); ++i) t.parameters[i] -= spec.learning_rate * ratio * u[i];
}

// Shazeer & Stern 2018, algorithm 4 for matrices and 5 for vectors, with the options of
// transformers' Adafactor.
void adafactor_step(const OptimizerSpec& spec, std::uint64_t step, OracleTensor& t,
                    const std::vector<double>& g) {
  const auto time = static_cast<double>(step);
  const double decay = 1 - std::pow(time, spec.beta2_decay);
  const bool factored = t.shape.size() >= 2;
  const std::uint64_t m = t.shape.back();
  const std::uint64_t n = factored ? t.shape[t.shape.size() - 2] : 1;
  std::vector<double> u(g.size());
  if (!factored) {
    t.second.resize(g.size());
    for (std::size_t i = 0; i < g.size(); ++i) {
      t.second[i] = decay * t.second[i] + (1 - decay) * (g[i] * g[i] + spec.epsilon);
      u[i] = g[i] / std::sqrt(t.second[i]);
    }
  } else {
    t.rows.resize(g.size() / m);
    t.columns.resize(g.size() / n);
    for (std::size_t matrix = 0; matrix < g.size() / (n * m); ++matrix) {
      std::vector<double> by_row(n), by_column(m);
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < m; ++j) {
          const double square = std::pow(g[(matrix * n + i) * m + j], 2) + spec.epsilon;
          by_row[i] += square / static_cast<double>(m);
          by_column[j] += square / static_cast<double>(n);
        }
      double row_mean = 0;
      for (std::size_t i = 0; i < n; ++i) {
        double& row = t.rows[matrix * n + i];
        row = decay * row + (1 - decay) * by_row[i];
        row_mean += row / static_cast<double>(n);
      }
      for (std::size_t j = 0; j < m; ++j) {
        double& column = t.columns[matrix * m + j];
        column = decay * column + (1 - decay) * by_column[j];
      }
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < m; ++j) {
          const std::size_t at = (matrix * n + i) * m + j;
          const double v = t.rows[matrix * n + i] * t.columns[matrix * m + j] / row_mean;
          u[at] = g[at] / std::sqrt(v);
        }
    }
  }
  const double count = std::sqrt(static_cast<double>(g.size()));
  double rate = spec.learning_rate;
  if (spec.relative_step) rate = std::min(rate, 1 / std::sqrt(time));
  if (spec.scale_parameter) rate *= std::max(spec.epsilon2, norm(t.parameters) / count);
  const double clip = std::max(1.0, norm(u) / count / spec.clip_threshold);
  for (std::size_t i = 0; i < g.size(); ++i)
    t.parameters[i] -= rate * u[i] / clip + rate * spec.weight_decay * t.parameters[i];
}

}  // namespace

void oracle_norm_step(const OptimizerSpec& spec, std::uint64_t step, OracleTensor& tensor,
                      std::vector<double> gradient, double group_square) {
  if (spec.clip > 0)
    for (double& g : gradient) g = std::clamp(g, -spec.clip, spec.clip);
  const double size = spec.clip_global_norm > 0 ? std::sqrt(group_square) : norm(gradient);
  const double bound = std::max(spec.clip_norm, spec.clip_global_norm);
  if (bound > 0 && size > bound)
    for (double& g : gradient) g *= bound / size;
  switch (spec.kind) {
    case OptimizerKind::kLars:
      return lars_step(spec, tensor, gradient);
    case OptimizerKind::kLamb:
      return lamb_step(spec, step, tensor, gradient);
    case OptimizerKind::kAdaFactor:
      return adafactor_step(spec, step, tensor, gradient);
    default:
      break;
  }
  OptimizerSpec plain = spec;
  plain.clip = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double state[kMaxStatePlanes] = {tensor.first[i], tensor.second[i]};
    const OracleStep moved = oracle_step(plain, step, tensor.parameters[i], state, gradient[i]);
    tensor.parameters[i] = moved.parameter.value;
    tensor.first[i] = moved.state[0].value;
    tensor.second[i] = moved.state[1].value;
  }
}

}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The sparse rules of MXNet, MindSpore, Paddle and FBGEMM, each written down in double from its
// formula, against our named forms over several steps of a table.

#include <gtest/gtest.h>

#include <functional>

#include "tests/kernels/oracle.h"
#include "tests/kernels/rows_support.h"

namespace penstock::test {
namespace {

struct Row {
  std::vector<double> w;
  std::vector<std::vector<double>> s;  // by plane, one an element or one
};
// What one step does to a row it covers, with gradient g, at step t.
using Formula = std::function<void(Row&, const std::vector<double>& g, double t)>;
using ElementFormula = std::function<void(double& w, double& a, double& b, double g, double t)>;

// A formula for elements with two states at most.
Formula each(const ElementFormula& formula) {
  return [formula](Row& row, const std::vector<double>& g, double t) {
    for (std::size_t i = 0; i < row.w.size(); ++i) {
      double none = 0;
      formula(row.w[i], !row.s.empty() ? row.s[0][i] : none, row.s.size() > 1 ? row.s[1][i] : none,
              g[i], t);
    }
  };
}

double mean_square(const std::vector<double>& g) {
  double sum = 0;
  for (double x : g) sum += x * x;
  return sum / static_cast<double>(g.size());
}

using Fold = std::function<RowCoefficients(std::uint64_t step)>;

Row row_of_arrays(RowArrays& arrays, const RowCase& c, std::uint64_t row) {
  const RowPlanes planes = row_planes(c.optimizer);
  Row out;
  for (std::size_t i = 0; i < c.width; ++i) out.w.push_back(arrays.parameter(row, i));
  for (std::uint32_t s = 0; s < planes.elements + planes.scalars; ++s) {
    std::vector<double>& plane = out.s.emplace_back();
    for (std::size_t i = 0; i < (s < planes.elements ? c.width : 1); ++i)
      plane.push_back(arrays.state(s, row, i));
  }
  return out;
}

void expect_close(const Row& actual, const Row& expected, const std::string& what) {
  constexpr double kClose = 4e-6;  // some tens of float roundings, gathered over the steps
  for (std::size_t i = 0; i < expected.w.size(); ++i)
    ASSERT_NEAR(actual.w[i], expected.w[i], kClose * (1 + std::abs(expected.w[i]))) << what;
  for (std::size_t s = 0; s < expected.s.size(); ++s)
    for (std::size_t i = 0; i < expected.s[s].size(); ++i)
      ASSERT_NEAR(actual.s[s][i], expected.s[s][i], kClose * (1 + std::abs(expected.s[s][i])))
          << what << ", state " << s;
}

void expect_formula(const RowOptimizerSpec& spec, RowCoverage coverage, const Formula& formula,
                    Fold fold_step = nullptr) {
  ASSERT_TRUE(validate(spec).ok()) << validate(spec).to_string();
  if (!fold_step) fold_step = [&](std::uint64_t step) { return fold_rows(spec, step); };
  for (const RowKernels* kernels : available_row_kernels()) {
    RowCase c;
    c.optimizer = spec;
    c.coverage = coverage;
    c.width = 11;
    c.scale = 0.5F;
    RowArrays arrays(c);
    std::vector<Row> rows;
    for (std::uint64_t row = 0; row < c.rows; ++row) rows.push_back(row_of_arrays(arrays, c, row));
    for (std::uint64_t step = 1; step <= 6; ++step) {
      kernels->update(fold_step(step), arrays.args());
      for (std::uint64_t row = 0; row < c.rows; ++row) {
        const float* gradient = arrays.gradient(row);
        std::vector<double> g(c.width, 0.0);
        for (std::size_t i = 0; gradient != nullptr && i < c.width; ++i) g[i] = gradient[i] * 0.5;
        if (gradient != nullptr || coverage == RowCoverage::kAll)
          formula(rows[row], g, static_cast<double>(step));
        expect_close(row_of_arrays(arrays, c, row), rows[row], describe(c));
        if (testing::Test::HasFatalFailure()) return;
      }
      arrays.new_gradients();
    }
  }
}

RowOptimizerSpec make(RowRule rule, OptimizerKind kind, EpsilonForm form = EpsilonForm::kHat) {
  RowOptimizerSpec spec;
  spec.rule = rule;
  spec.elements = default_optimizer(kind);
  spec.elements.epsilon_form = form;
  spec.elements.learning_rate = 0.05;
  spec.elements.beta1 = 0.8;
  spec.elements.beta2 = 0.95;
  spec.elements.epsilon = 1e-3;
  return spec;
}

// MindSpore's beta powers, as its workers send them.
Fold powers(const RowOptimizerSpec& spec) {
  return [spec](std::uint64_t step) {
    const double t = static_cast<double>(step);
    return *fold_rows_with_powers(spec, std::pow(0.8, t), std::pow(0.95, t));
  };
}

// lr_t = lr·√(1−b2ᵗ)/(1−b1ᵗ); m, v; w −= lr_t·m/(√v+ε), or m_t = b1·m+(1−b1)·g in place of m.
ElementFormula mindspore_adam(bool nesterov) {
  return [nesterov](double& w, double& m, double& v, double g, double t) {
    const double rate = 0.05 * std::sqrt(1 - std::pow(0.95, t)) / (1 - std::pow(0.8, t));
    m = 0.8 * m;
    v = 0.95 * v;
    m += 0.2 * g;
    v += 0.05 * g * g;
    w -= rate * (nesterov ? 0.8 * m + 0.2 * g : m) / (std::sqrt(v) + 1e-3);
  };
}

TEST(RowsGolden, MindSporeSparseAdamAndLazyAdam) {
  for (RowCoverage coverage : {RowCoverage::kAll, RowCoverage::kTouched}) {
    const RowOptimizerSpec plain = make(RowRule::kElements, OptimizerKind::kAdam);
    expect_formula(plain, coverage, each(mindspore_adam(false)), powers(plain));
    const RowOptimizerSpec nesterov = make(RowRule::kNesterovAdam, OptimizerKind::kAdam);
    expect_formula(nesterov, coverage, each(mindspore_adam(true)), powers(nesterov));
    // Counted steps give the same as powers sent along.
    expect_formula(nesterov, coverage, each(mindspore_adam(true)));
  }
}

// A row without a gradient still moves: w −= lr_t·b1·m/(√(b2·v)+ε), here with exact numbers.
TEST(RowsGolden, MindSporeSparseAdamMovesUntouchedRows) {
  RowOptimizerSpec spec = make(RowRule::kElements, OptimizerKind::kAdam);
  spec.elements.learning_rate = 0.25;
  spec.elements.beta1 = 0.5;
  spec.elements.beta2 = 0.25;
  spec.elements.epsilon = 1e-30;
  for (const RowKernels* kernels : available_row_kernels()) {
    RowCase c;
    c.optimizer = spec;
    c.touched = 0;
    c.coverage = RowCoverage::kAll;
    RowArrays arrays(c);
    arrays.parameter(5, 2) = arrays.state(0, 5, 2) = arrays.state(1, 5, 2) = 1;
    kernels->update(*fold_rows_with_powers(spec, 0.5, 0.75), arrays.args());
    EXPECT_EQ(arrays.state(0, 5, 2), 0.5F);
    EXPECT_EQ(arrays.state(1, 5, 2), 0.25F);
    EXPECT_EQ(arrays.parameter(5, 2), 0.75F);  // lr_t = 0.25·√0.25/0.5; m/√v = 0.5/0.5
  }
}

// l += g − (√a' − √a)/lr·w; w = |l| > l1 ? (sign(l)·l1 − l)/(√a'/lr + 2·l2) : 0; a = a' = a + g².
TEST(RowsGolden, FtrlOfMindSporeAndPaddle) {
  for (double paddle : {0.0, 1e-10}) {
    RowOptimizerSpec spec = make(RowRule::kElements, OptimizerKind::kFtrl, EpsilonForm::kOutside);
    spec.elements.ftrl_form = FtrlForm::kDoubled;
    spec.elements.lambda1 = 0.1 + paddle;
    spec.elements.lambda2 = 0.05 + paddle;
    spec.elements.initial_accumulator = 0.1;
    expect_formula(
        spec, RowCoverage::kTouched, each([=](double& w, double& a, double& l, double g, double) {
          const double next = a + g * g;
          l += g - (std::sqrt(next) - std::sqrt(a)) / 0.05 * w;
          const double sign = l > 0 ? 1 : -1;
          w = std::abs(l) > 0.1 + paddle
                  ? (sign * (0.1 + paddle) - l) / (std::sqrt(next) / 0.05 + 2 * (0.05 + paddle))
                  : 0;
          a = next;
        }));
  }
}

// m = mu·m − lr·g; w += m, with g + wd·w for g: lazily or on every row.
TEST(RowsGolden, MxnetMomentumLazyAndStandard) {
  RowOptimizerSpec spec = make(RowRule::kElements, OptimizerKind::kMomentum);
  spec.elements.momentum_form = MomentumForm::kScaledVelocity;
  spec.elements.weight_decay = 0.1;
  for (RowCoverage coverage : {RowCoverage::kAll, RowCoverage::kTouched})
    expect_formula(spec, coverage, each([](double& w, double& m, double&, double g, double) {
                     m = 0.9 * m - 0.05 * (g + 0.1 * w);
                     w += m;
                   }));
}

TEST(RowsGolden, MxnetAdaGrad) {
  expect_formula(make(RowRule::kElements, OptimizerKind::kAdaGrad, EpsilonForm::kOutside),
                 RowCoverage::kTouched, each([](double& w, double& h, double&, double g, double) {
                   h += g * g;
                   w -= 0.05 * g / (std::sqrt(h) + 1e-3);
                 }));
}

TEST(RowsGolden, PaddleMomentumAndRmsPropStepAllRows) {
  RowOptimizerSpec momentum = make(RowRule::kElements, OptimizerKind::kNesterov);
  expect_formula(momentum, RowCoverage::kAll,
                 each([](double& w, double& v, double&, double g, double) {
                   v = 0.9 * v + g;
                   w -= 0.05 * (g + 0.9 * v);
                 }));
  RowOptimizerSpec rmsprop =
      make(RowRule::kElements, OptimizerKind::kRmsProp, EpsilonForm::kInside);
  rmsprop.elements.momentum_form = MomentumForm::kScaledVelocity;  // p −= q is p += −q
  rmsprop.elements.momentum = 0.7;
  rmsprop.elements.rho = 0.9;
  expect_formula(rmsprop, RowCoverage::kAll,
                 each([](double& w, double& s, double& minus_q, double g, double) {
                   s = 0.9 * s + 0.1 * g * g;
                   const double q = 0.7 * -minus_q + 0.05 * g / std::sqrt(s + 1e-3);
                   w -= q;
                   minus_q = -q;
                 }));
}

// gs·√(G0/(G0 + G)) with G from before the step: one G an element, or the row's mean.
TEST(RowsGolden, PaddleTablesAdaGrad) {
  RowOptimizerSpec spec =
      make(RowRule::kPaddleAdaGrad, OptimizerKind::kAdaGrad, EpsilonForm::kOutside);
  spec.lower = -0.7;
  spec.upper = 0.6;
  const auto clamp = [](double w) { return std::min(std::max(w, -0.7), 0.6); };
  expect_formula(spec, RowCoverage::kTouched, [&](Row& row, const std::vector<double>& g, double) {
    for (std::size_t i = 0; i < g.size(); ++i)
      row.w[i] = clamp(row.w[i] - 0.05 * g[i] * std::sqrt(3 / (3 + row.s[0][0])));
    row.s[0][0] += mean_square(g);
  });
  spec.rule = RowRule::kPaddleStdAdaGrad;
  expect_formula(spec, RowCoverage::kTouched,
                 each([&](double& w, double& square, double&, double g, double) {
                   w = clamp(w - 0.05 * g * std::sqrt(3 / (3 + square)));
                   square += g * g;
                 }));
}

TEST(RowsGolden, PaddleTablesAdam) {
  const RowOptimizerSpec spec = make(RowRule::kPaddleAdam, OptimizerKind::kAdam);
  expect_formula(spec, RowCoverage::kTouched, [](Row& row, const std::vector<double>& g, double) {
    double &b1 = row.s[2][0], &b2 = row.s[3][0];
    const double rate = 0.05 * std::sqrt(1 - b2) / (1 - b1);
    for (std::size_t i = 0; i < g.size(); ++i) {
      double &m = row.s[0][i], &v = row.s[1][i];
      m = 0.8 * m + 0.2 * g[i];
      v = 0.95 * v + 0.05 * g[i] * g[i];
      row.w[i] -= rate * m / (std::sqrt(v) + 1e-3);
    }
    b1 *= 0.8;
    b2 *= 0.95;
  });
}

TEST(RowsGolden, PaddleTablesSharedAdam) {
  const RowOptimizerSpec spec = make(RowRule::kPaddleSharedAdam, OptimizerKind::kAdam);
  expect_formula(spec, RowCoverage::kTouched, [](Row& row, const std::vector<double>& g, double) {
    double &m = row.s[0][0], &v = row.s[1][0], &b1 = row.s[2][0], &b2 = row.s[3][0];
    const double rate = 0.05 * std::sqrt(1 - b2) / (1 - b1);
    double sum_m = 0, sum_v = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      const double mi = 0.8 * m + 0.2 * g[i];
      const double vi = 0.95 * v + 0.05 * g[i] * g[i];
      row.w[i] -= rate * mi / (std::sqrt(vi) + 1e-3);
      sum_m += mi;
      sum_v += vi;
    }
    m = sum_m / static_cast<double>(g.size());
    v = sum_v / static_cast<double>(g.size());
    b1 *= 0.8;
    b2 *= 0.95;
  });
}

TEST(RowsGolden, FbgemmRowWiseAdaGrad) {
  RowOptimizerSpec spec =
      make(RowRule::kRowAdaGrad, OptimizerKind::kAdaGrad, EpsilonForm::kOutside);
  spec.elements.initial_accumulator = 0.2;
  spec.elements.weight_decay = 0.1;
  expect_formula(spec, RowCoverage::kTouched, [](Row& row, std::vector<double> g, double) {
    for (std::size_t i = 0; i < g.size(); ++i) g[i] += 0.1 * row.w[i];
    row.s[0][0] += mean_square(g);
    for (std::size_t i = 0; i < g.size(); ++i)
      row.w[i] -= 0.05 * g[i] / (std::sqrt(row.s[0][0]) + 1e-3);
  });
}

TEST(RowsGolden, FbgemmPartialRowWiseAdam) {
  const RowOptimizerSpec spec =
      make(RowRule::kRowAdam, OptimizerKind::kAdam, EpsilonForm::kOutside);
  expect_formula(spec, RowCoverage::kTouched, [](Row& row, const std::vector<double>& g, double t) {
    double& v = row.s[1][0];
    v = 0.95 * v + 0.05 * mean_square(g);
    const double v_hat = v / (1 - std::pow(0.95, t));
    for (std::size_t i = 0; i < g.size(); ++i) {
      double& m = row.s[0][i];
      m = 0.8 * m + 0.2 * g[i];
      const double m_hat = m / (1 - std::pow(0.8, t));
      row.w[i] -= 0.05 * m_hat / (std::sqrt(v_hat) + 1e-3);
    }
  });
}

// Every dense rule and form, row by row, against the oracle of the dense kernels.
TEST(RowsGolden, EveryDenseRuleFollowsTheOracle) {
  for (const RowOptimizerSpec& spec : row_variants()) {
    if (spec.rule != RowRule::kElements) continue;
    for (const RowKernels* kernels : available_row_kernels()) {
      RowCase c;
      c.optimizer = spec;
      RowArrays before(c), after(c);
      after.update(*kernels, 1);
      for (std::uint32_t row : after.touched())
        for (std::size_t i = 0; i < c.width; ++i) {
          double state[kMaxStatePlanes] = {};
          for (std::uint32_t s = 0; s < state_planes(spec.elements); ++s)
            state[s] = before.state(s, row, i);
          const OracleStep step = oracle_step(spec.elements, 1, before.parameter(row, i), state,
                                              before.gradient(row)[i]);
          EXPECT_NEAR(after.parameter(row, i), step.parameter.value,
                      10 * 0x1p-24 * step.parameter.size)
              << describe(c);
        }
    }
  }
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The dense optimizers of MXNet, MindSpore and Paddle, each written down in double from its
// formula, against our named forms over several steps.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>

#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

// One step of one element: weight and state in place, summed gradient, step from 1.
using Formula = std::function<void(double& w, double* s, double g, double t)>;

constexpr double kRate = 0.05, kDecay = 0.1, kClip = 0.6, kRescale = 0.25;
constexpr double kB1 = 0.8, kB2 = 0.95, kEpsilon = 1e-3, kMu = 0.7, kRho = 0.85;

OptimizerSpec make(OptimizerKind kind) {
  OptimizerSpec spec = default_optimizer(kind);
  spec.learning_rate = kRate;
  spec.momentum = kMu;
  spec.beta1 = kB1;
  spec.beta2 = kB2;
  spec.rho = kRho;
  spec.epsilon = kEpsilon;
  spec.weight_decay = 0;
  return spec;
}

// Eight steps of 37 elements, parameters and state compared after each.
void expect_formula(const OptimizerSpec& spec, const Formula& formula) {
  ASSERT_TRUE(validate(spec).ok()) << validate(spec).to_string();
  constexpr std::size_t kCount = 37;
  constexpr double kClose = 4e-6;  // some tens of float roundings, gathered over the steps
  for (const KernelTable* kernels : available_kernels()) {
    SeededRandom random(11);
    std::vector<float> w(kCount), g(kCount), planes[kMaxStatePlanes];
    for (float& value : w) value = random_float(random, Flavour::kOrdinary);
    UpdateArgs args;
    const void* gradient = g.data();
    args.gradients = &gradient;
    args.workers = 1;
    args.parameters = w.data();
    args.count = kCount;
    args.scale = static_cast<float>(kRescale);
    for (std::uint32_t s = 0; s < kMaxStatePlanes; ++s) {
      planes[s].assign(kCount, s < state_planes(spec) ? initial_state(spec, s) : 0.0F);
      args.state[s] = planes[s].data();
    }
    std::vector<double> expected(w.begin(), w.end());
    std::vector<std::array<double, kMaxStatePlanes>> state(kCount);
    for (std::size_t i = 0; i < kCount; ++i)
      for (std::uint32_t s = 0; s < kMaxStatePlanes; ++s) state[i][s] = planes[s][i];
    for (std::uint64_t step = 1; step <= 8; ++step) {
      for (float& value : g) value = 4 * random_float(random, Flavour::kOrdinary);
      kernels->update(fold(spec, step), args);
      for (std::size_t i = 0; i < kCount; ++i) {
        formula(expected[i], state[i].data(), g[i] * kRescale, static_cast<double>(step));
        ASSERT_NEAR(w[i], expected[i], kClose * (1 + std::abs(expected[i]))) << kernels->target;
        for (std::uint32_t s = 0; s < state_planes(spec); ++s)
          ASSERT_NEAR(planes[s][i], state[i][s], kClose * (1 + std::abs(state[i][s])))
              << kernels->target << ", state " << s;
      }
    }
  }
}

// MXNet's prologue: clip the rescaled gradient, add wd·w.
OptimizerSpec mxnet(OptimizerKind kind) {
  OptimizerSpec spec = make(kind);
  spec.clip = kClip;
  spec.weight_decay = kDecay;
  spec.momentum_form = MomentumForm::kScaledVelocity;
  return spec;
}
double prologue(double w, double g) { return std::clamp(g, -kClip, kClip) + kDecay * w; }

TEST(GoldenMxnet, Sgd) {
  expect_formula(mxnet(OptimizerKind::kSgd),
                 [](double& w, double*, double g, double) { w -= kRate * prologue(w, g); });
}

TEST(GoldenMxnet, SgdMomentum) {
  expect_formula(mxnet(OptimizerKind::kMomentum), [](double& w, double* m, double g, double) {
    *m = kMu * *m - kRate * prologue(w, g);
    w += *m;
  });
}

TEST(GoldenMxnet, Nag) {
  expect_formula(mxnet(OptimizerKind::kNesterov), [](double& w, double* m, double g, double) {
    const double scaled = kRate * prologue(w, g);
    *m = kMu * *m - scaled;
    w += kMu * *m - scaled;
  });
}

// m = b1·m + (1−b1)·g; v = b2·v + (1−b2)·g²; w −= lr_t·m/(√v + ε), plain ε.
void adam(double& w, double* s, double g, double t) {
  const double rate = kRate * std::sqrt(1 - std::pow(kB2, t)) / (1 - std::pow(kB1, t));
  s[0] = kB1 * s[0] + (1 - kB1) * g;
  s[1] = kB2 * s[1] + (1 - kB2) * g * g;
  w -= rate * s[0] / (std::sqrt(s[1]) + kEpsilon);
}

TEST(GoldenMxnet, Adam) {
  OptimizerSpec spec = mxnet(OptimizerKind::kAdam);
  spec.epsilon_form = EpsilonForm::kHat;
  expect_formula(spec,
                 [](double& w, double* s, double g, double t) { adam(w, s, prologue(w, g), t); });
}

TEST(GoldenMxnet, RmsProp) {
  OptimizerSpec spec = mxnet(OptimizerKind::kRmsProp);
  spec.momentum = 0;
  expect_formula(spec, [](double& w, double* n, double g, double) {
    g = prologue(w, g);
    *n = (1 - kRho) * g * g + kRho * *n;
    w -= kRate * g / (std::sqrt(*n) + kEpsilon);
  });
}

TEST(GoldenMxnet, RmsPropCentred) {
  OptimizerSpec spec = mxnet(OptimizerKind::kRmsProp);
  spec.centred = true;
  spec.epsilon_form = EpsilonForm::kInside;
  expect_formula(spec, [](double& w, double* s, double g, double) {
    double &n = s[0], &a = s[1], &d = s[2];
    g = prologue(w, g);
    n = (1 - kRho) * g * g + kRho * n;
    a = (1 - kRho) * g + kRho * a;
    d = kMu * d - kRate * g / std::sqrt(n - a * a + kEpsilon);
    w += d;
  });
}

// No wd in the prologue: it stands in the denominator.
TEST(GoldenMxnet, Ftrl) {
  OptimizerSpec spec = mxnet(OptimizerKind::kFtrl);
  spec.weight_decay = 0;
  spec.lambda1 = 0.02;
  spec.lambda2 = kDecay;
  spec.beta = 0.3;
  expect_formula(spec, [](double& w, double* s, double g, double) {
    double &n = s[0], &z = s[1];
    g = std::clamp(g, -kClip, kClip);
    z += g - (std::sqrt(n + g * g) - std::sqrt(n)) * w / kRate;
    n += g * g;
    const double sign = z > 0 ? 1 : -1;
    w = -sign * std::max(std::abs(z) - 0.02, 0.0) / ((0.3 + std::sqrt(n)) / kRate + kDecay);
  });
}

TEST(GoldenMindSpore, Momentum) {
  expect_formula(make(OptimizerKind::kMomentum), [](double& w, double* a, double g, double) {
    *a = kMu * *a + g;
    w -= kRate * *a;
  });
}

// l += g − (a'^(−p) − a^(−p))/lr·w; w = |l| > l1 ? (sign(l)·l1 − l)/(a'^(−p)/lr + 2·l2) : 0; p =
// −½.
Formula doubled_ftrl(double l1, double l2) {
  return [=](double& w, double* s, double g, double) {
    double &a = s[0], &l = s[1];
    const double next = a + g * g;
    l += g - (std::pow(next, 0.5) - std::pow(a, 0.5)) / kRate * w;
    const double sign = l > 0 ? 1 : -1;
    w = std::abs(l) > l1 ? (sign * l1 - l) / (std::pow(next, 0.5) / kRate + 2 * l2) : 0;
    a = next;
  };
}

TEST(GoldenMindSpore, Ftrl) {
  OptimizerSpec spec = make(OptimizerKind::kFtrl);
  spec.ftrl_form = FtrlForm::kDoubled;
  spec.lambda1 = 0.02;
  spec.lambda2 = 0.3;
  spec.initial_accumulator = 0.1;
  expect_formula(spec, doubled_ftrl(0.02, 0.3));
}

TEST(GoldenPaddle, Ftrl) {
  OptimizerSpec spec = make(OptimizerKind::kFtrl);
  spec.ftrl_form = FtrlForm::kDoubled;
  spec.lambda1 = 0.02 + 1e-10;
  spec.lambda2 = 0.3 + 1e-10;
  expect_formula(spec, doubled_ftrl(0.02 + 1e-10, 0.3 + 1e-10));
}

TEST(GoldenPaddle, Sgd) {
  expect_formula(make(OptimizerKind::kSgd),
                 [](double& w, double*, double g, double) { w -= kRate * g; });
}

TEST(GoldenPaddle, Momentum) {
  expect_formula(make(OptimizerKind::kMomentum), [](double& w, double* v, double g, double) {
    *v = kMu * *v + g;
    w -= kRate * *v;
  });
  expect_formula(make(OptimizerKind::kNesterov), [](double& w, double* v, double g, double) {
    *v = kMu * *v + g;
    w -= kRate * (g + kMu * *v);
  });
}

TEST(GoldenPaddle, AdaGrad) {
  expect_formula(make(OptimizerKind::kAdaGrad), [](double& w, double* m, double g, double) {
    *m += g * g;
    w -= kRate * g / (std::sqrt(*m) + kEpsilon);
  });
}

TEST(GoldenPaddle, DecayedAdaGrad) {
  expect_formula(make(OptimizerKind::kDecayedAdaGrad), [](double& w, double* m, double g, double) {
    *m = kRho * *m + (1 - kRho) * g * g;
    w -= kRate * g / (std::sqrt(*m) + kEpsilon);
  });
}

TEST(GoldenPaddle, Adam) {
  OptimizerSpec spec = make(OptimizerKind::kAdam);
  spec.epsilon_form = EpsilonForm::kHat;
  expect_formula(spec, adam);
  // Newer versions scale ε by √(1−b2ᵗ), which is the form of PyTorch.
  spec.epsilon_form = EpsilonForm::kOutside;
  expect_formula(spec, [](double& w, double* s, double g, double t) {
    const double second = std::sqrt(1 - std::pow(kB2, t));
    s[0] = kB1 * s[0] + (1 - kB1) * g;
    s[1] = kB2 * s[1] + (1 - kB2) * g * g;
    w -= kRate * second / (1 - std::pow(kB1, t)) * s[0] / (std::sqrt(s[1]) + kEpsilon * second);
  });
}

TEST(GoldenPaddle, AdaMax) {
  OptimizerSpec spec = make(OptimizerKind::kAdaMax);
  spec.epsilon_form = EpsilonForm::kInside;
  expect_formula(spec, [](double& w, double* s, double g, double t) {
    s[0] = kB1 * s[0] + (1 - kB1) * g;
    s[1] = std::max(std::abs(g), kB2 * s[1] + kEpsilon);
    w -= kRate / (1 - std::pow(kB1, t)) * s[0] / s[1];
  });
}

// Paddle's q is our velocity with the other sign: p −= q.
TEST(GoldenPaddle, RmsProp) {
  OptimizerSpec spec = make(OptimizerKind::kRmsProp);
  spec.momentum_form = MomentumForm::kScaledVelocity;
  spec.epsilon_form = EpsilonForm::kInside;
  expect_formula(spec, [](double& w, double* s, double g, double) {
    s[0] = kRho * s[0] + (1 - kRho) * g * g;
    const double q = kMu * -s[1] + kRate * g / std::sqrt(s[0] + kEpsilon);
    w -= q;
    s[1] = -q;
  });
}

TEST(GoldenPaddle, RmsPropCentred) {
  OptimizerSpec spec = make(OptimizerKind::kRmsProp);
  spec.momentum_form = MomentumForm::kScaledVelocity;
  spec.epsilon_form = EpsilonForm::kInside;
  spec.centred = true;
  expect_formula(spec, [](double& w, double* s, double g, double) {
    s[0] = kRho * s[0] + (1 - kRho) * g * g;
    s[1] = kRho * s[1] + (1 - kRho) * g;
    const double q = kMu * -s[2] + kRate * g / std::sqrt(s[0] - s[1] * s[1] + kEpsilon);
    w -= q;
    s[2] = -q;
  });
}

}  // namespace
}  // namespace penstock::test

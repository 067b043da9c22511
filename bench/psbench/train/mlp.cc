// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/mlp.h"

#include <algorithm>
#include <cmath>

#include "transport/base/check.h"
#include "transport/base/random.h"

namespace penstock::psbench {
namespace {

enum : std::size_t { kW1, kB1, kW2, kB2 };

// y += a·x, the one loop everything is made of: no sum runs along it, so it vectorises as it
// stands.
void add_scaled(float a, std::span<const float> x, std::span<float> y) {
  CHECK(x.size() == y.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] += a * x[i];
}

float dot(std::span<const float> x, std::span<const float> y) {
  float sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

// y += x · w, w row-major [x][y].
void multiply_add(std::span<const float> x, std::span<const float> w, std::span<float> y) {
  for (std::size_t i = 0; i < x.size(); ++i)
    if (x[i] != 0) add_scaled(x[i], w.subspan(i * y.size(), y.size()), y);
}

// g += xᵀ · y, g row-major [x][y].
void outer_add(std::span<const float> x, std::span<const float> y, std::span<float> g) {
  for (std::size_t i = 0; i < x.size(); ++i)
    if (x[i] != 0) add_scaled(x[i], y, g.subspan(i * y.size(), y.size()));
}

void fill_uniform(SeededRandom& random, std::size_t inputs, std::span<float> weights) {
  const double limit = std::sqrt(6.0 / static_cast<double>(inputs));
  constexpr double kUnit = 1.0 / (std::uint64_t{1} << 53);  // 53 random bits fill a double
  for (float& weight : weights) {
    const double uniform = static_cast<double>(random.next() >> 11) * kUnit;
    weight = static_cast<float>((2 * uniform - 1) * limit);
  }
}

}  // namespace

Mlp::Mlp(std::size_t features, std::size_t hidden, std::size_t classes)
    : shapes_{{{"w1", {features, hidden}, features * hidden},
               {"b1", {hidden}, hidden},
               {"w2", {hidden, classes}, hidden * classes},
               {"b2", {classes}, classes}}},
      hidden_(hidden),
      hidden_slope_(hidden),
      logits_(classes) {}

void Mlp::initialize(std::uint64_t seed, const Tensors& parameters) const {
  SeededRandom random(seed);
  for (std::size_t i = 0; i < kTensors; ++i) {
    CHECK(parameters[i].size() == shapes_[i].elements, "tensor {}", shapes_[i].name);
    if (shapes_[i].extents.size() == 2)
      fill_uniform(random, shapes_[i].extents[0], parameters[i]);
    else
      std::fill(parameters[i].begin(), parameters[i].end(), 0.0F);
  }
}

void Mlp::forward(const ConstTensors& p, std::span<const float> x) {
  std::copy(p[kB1].begin(), p[kB1].end(), hidden_.begin());
  multiply_add(x, p[kW1], hidden_);
  for (float& h : hidden_) h = std::max(h, 0.0F);
  std::copy(p[kB2].begin(), p[kB2].end(), logits_.begin());
  multiply_add(hidden_, p[kW2], logits_);
}

// Turns the logits into probabilities and returns −log of the label's.
double Mlp::softmax_in_place(std::uint32_t label) {
  const float largest = *std::max_element(logits_.begin(), logits_.end());
  const double shifted = double{logits_[label]} - largest;
  float sum = 0;
  for (float& logit : logits_) sum += logit = std::exp(logit - largest);
  for (float& logit : logits_) logit /= sum;
  return std::log(double{sum}) - shifted;
}

// Expects the loss's gradient by the logits in logits_.
void Mlp::backward(const ConstTensors& p, std::span<const float> x, const Tensors& g) {
  const std::size_t classes = logits_.size();
  add_scaled(1, logits_, g[kB2]);
  outer_add(hidden_, logits_, g[kW2]);
  for (std::size_t j = 0; j < hidden_.size(); ++j)
    hidden_slope_[j] = hidden_[j] > 0 ? dot(p[kW2].subspan(j * classes, classes), logits_) : 0;
  add_scaled(1, hidden_slope_, g[kB1]);
  outer_add(x, hidden_slope_, g[kW1]);
}

double Mlp::gradients(const ConstTensors& parameters, const Dataset& data,
                      std::span<const RowIndex> rows, double divisor, const Tensors& gradients) {
  for (const std::span<float> gradient : gradients)
    std::fill(gradient.begin(), gradient.end(), 0.0F);
  const auto scale = static_cast<float>(1 / divisor);
  double loss = 0;
  for (const RowIndex row : rows) {
    forward(parameters, data.row(row));
    loss += softmax_in_place(data.labels[row]);
    logits_[data.labels[row]] -= 1;
    for (float& slope : logits_) slope *= scale;
    backward(parameters, data.row(row), gradients);
  }
  return loss / divisor;
}

double Mlp::accuracy(const ConstTensors& parameters, const Dataset& data,
                     std::span<const RowIndex> rows) {
  if (rows.empty()) return 0;
  std::size_t right = 0;
  for (const RowIndex row : rows) {
    forward(parameters, data.row(row));
    const auto best = std::max_element(logits_.begin(), logits_.end()) - logits_.begin();
    right += static_cast<std::uint32_t>(best) == data.labels[row] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(rows.size());
}

}  // namespace penstock::psbench

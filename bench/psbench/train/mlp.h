// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A classifier with one hidden layer: logits = relu(x·w1 + b1)·w2 + b2, softmax cross-entropy.
// Plain float32 with a fixed order of summation: the same inputs give the same bits.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/psbench/train/csv.h"
#include "bench/psbench/train/split.h"

namespace penstock::psbench {

class Mlp {
 public:
  static constexpr std::size_t kTensors = 4;  // w1, b1, w2, b2

  // Caller-owned memory, one span per tensor with shape(i)'s elements.
  using Tensors = std::array<std::span<float>, kTensors>;
  using ConstTensors = std::array<std::span<const float>, kTensors>;

  struct Shape {
    std::string name;
    std::vector<std::uint64_t> extents;  // w1 [features][hidden], w2 [hidden][classes]
    std::size_t elements = 0;
  };

  Mlp(std::size_t features, std::size_t hidden, std::size_t classes);

  const std::array<Shape, kTensors>& shapes() const { return shapes_; }

  // Weights uniform in ±sqrt(6 / inputs) (He et al. 2015) drawn from the seed alone, biases 0.
  void initialize(std::uint64_t seed, const Tensors& parameters) const;

  // Overwrites `gradients` with the gradient of (sum of the rows' losses) / `divisor` and returns
  // that value. For W workers whose gradients are averaged, a divisor of (rows of the whole batch)
  // / W makes the average the gradient of the whole batch's mean loss, however it was cut.
  //   rows  indices into `data`, whose features and classes are this network's
  double gradients(const ConstTensors& parameters, const Dataset& data,
                   std::span<const RowIndex> rows, double divisor, const Tensors& gradients);

  // Share of the rows whose largest logit is their label's; 0 for no rows.
  double accuracy(const ConstTensors& parameters, const Dataset& data,
                  std::span<const RowIndex> rows);

 private:
  void forward(const ConstTensors& parameters, std::span<const float> x);
  double softmax_in_place(std::uint32_t label);
  void backward(const ConstTensors& parameters, std::span<const float> x, const Tensors& gradients);

  std::array<Shape, kTensors> shapes_;
  std::vector<float> hidden_;        // of the row at hand: activations
  std::vector<float> hidden_slope_;  // the loss by them
  std::vector<float> logits_;        // logits, then probabilities, then their gradient
};

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/mlp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "transport/base/random.h"

namespace penstock::psbench {
namespace {

// Memory for one set of tensors of a network.
struct Buffers {
  explicit Buffers(const Mlp& mlp) {
    for (std::size_t i = 0; i < Mlp::kTensors; ++i) memory[i].resize(mlp.shapes()[i].elements);
  }
  Mlp::Tensors tensors() { return {memory[0], memory[1], memory[2], memory[3]}; }
  Mlp::ConstTensors view() const { return {memory[0], memory[1], memory[2], memory[3]}; }
  std::array<std::vector<float>, Mlp::kTensors> memory;
};

Dataset random_data(std::size_t rows, std::size_t features, std::uint32_t classes) {
  SeededRandom random(11);
  Dataset data{features, classes, {}, {}};
  for (std::size_t i = 0; i < rows * features; ++i)
    data.values.push_back(static_cast<float>(random.below(2001)) / 1000 - 1);
  for (std::size_t i = 0; i < rows; ++i)
    data.labels.push_back(static_cast<std::uint32_t>(random.below(classes)));
  return data;
}

std::vector<RowIndex> all_rows(const Dataset& data) {
  std::vector<RowIndex> rows(data.rows());
  std::iota(rows.begin(), rows.end(), RowIndex{0});
  return rows;
}

// The mean loss by its definition, in double, written without looking at mlp.cc.
using Doubles = std::array<std::vector<double>, Mlp::kTensors>;
double mean_loss(const Doubles& p, const Dataset& data) {
  const std::size_t hidden = p[1].size(), classes = p[3].size();
  double total = 0;
  for (std::size_t r = 0; r < data.rows(); ++r) {
    std::vector<double> logits = p[3];
    for (std::size_t j = 0; j < hidden; ++j) {
      double sum = p[1][j];
      for (std::size_t f = 0; f < data.features; ++f)
        sum += double{data.row(r)[f]} * p[0][f * hidden + j];
      for (std::size_t c = 0; c < classes && sum > 0; ++c) logits[c] += sum * p[2][j * classes + c];
    }
    double normalizer = 0;
    for (const double logit : logits) normalizer += std::exp(logit);
    total += std::log(normalizer) - logits[data.labels[r]];
  }
  return total / static_cast<double>(data.rows());
}

Doubles as_doubles(const Buffers& buffers) {
  Doubles doubles;
  for (std::size_t t = 0; t < Mlp::kTensors; ++t)
    doubles[t].assign(buffers.memory[t].begin(), buffers.memory[t].end());
  return doubles;
}

TEST(Mlp, GradientsEqualFiniteDifferences) {
  const Dataset data = random_data(9, 5, 3);
  Mlp mlp(5, 7, 3);
  Buffers parameters(mlp), gradients(mlp);
  mlp.initialize(3, parameters.tensors());
  for (float& bias : parameters.memory[1]) bias = 0.1F;  // away from the kink of relu
  const double loss = mlp.gradients(parameters.view(), data, all_rows(data),
                                    static_cast<double>(data.rows()), gradients.tensors());
  Doubles p = as_doubles(parameters);
  EXPECT_NEAR(loss, mean_loss(p, data), 1e-6);
  constexpr double kStep = 1e-6;
  for (std::size_t t = 0; t < Mlp::kTensors; ++t) {
    for (std::size_t i = 0; i < p[t].size(); ++i) {
      const double at = p[t][i];
      p[t][i] = at + kStep;
      const double above = mean_loss(p, data);
      p[t][i] = at - kStep;
      const double below = mean_loss(p, data);
      p[t][i] = at;
      EXPECT_NEAR(gradients.memory[t][i], (above - below) / (2 * kStep), 1e-5)
          << mlp.shapes()[t].name << "[" << i << "]";
    }
  }
}

TEST(Mlp, AverageOverShardsIsTheWholeBatchWithinRounding) {
  const Dataset data = random_data(64, 16, 10);
  Mlp mlp(16, 32, 10);
  Buffers parameters(mlp), whole(mlp), part(mlp);
  mlp.initialize(5, parameters.tensors());
  const std::vector<RowIndex> rows = all_rows(data);
  const double batch = static_cast<double>(rows.size());
  const double loss = mlp.gradients(parameters.view(), data, rows, batch, whole.tensors());
  for (const std::size_t workers : {2U, 4U, 5U, 64U}) {
    Doubles average = as_doubles(Buffers(mlp));
    double average_loss = 0;
    const auto w = static_cast<double>(workers);
    for (std::size_t worker = 0; worker < workers; ++worker) {
      average_loss += mlp.gradients(parameters.view(), data, shard_of(rows, worker, workers),
                                    batch / w, part.tensors()) /
                      w;
      for (std::size_t t = 0; t < Mlp::kTensors; ++t)
        for (std::size_t i = 0; i < average[t].size(); ++i)
          average[t][i] += double{part.memory[t][i]} / w;
    }
    EXPECT_NEAR(average_loss, loss, 1e-6) << workers;
    for (std::size_t t = 0; t < Mlp::kTensors; ++t)
      for (std::size_t i = 0; i < average[t].size(); ++i)
        ASSERT_NEAR(average[t][i], whole.memory[t][i], 1e-6) << workers;
  }
}

TEST(Mlp, InitialValuesDependOnTheSeedAloneAndFillTheirRange) {
  Mlp mlp(64, 64, 10);
  Buffers one(mlp), same(mlp), other(mlp);
  mlp.initialize(1, one.tensors());
  mlp.initialize(1, same.tensors());
  mlp.initialize(2, other.tensors());
  EXPECT_EQ(one.memory, same.memory);
  EXPECT_NE(one.memory[0], other.memory[0]);
  const float limit = std::sqrt(6.0F / 64);
  const auto [low, high] = std::minmax_element(one.memory[0].begin(), one.memory[0].end());
  EXPECT_GE(*low, -limit);
  EXPECT_LE(*high, limit);
  EXPECT_LT(*low, -0.99F * limit);
  EXPECT_GT(*high, 0.99F * limit);
  EXPECT_EQ(*std::max_element(one.memory[1].begin(), one.memory[1].end()), 0);
}

TEST(Mlp, AccuracyCountsTheRowsItGetsRight) {
  const Dataset data{1, 2, {1, -1, 2, -2}, {0, 1, 1, 1}};
  Mlp mlp(1, 1, 2);
  Buffers p(mlp);
  p.memory = {{{1}, {0}, {4, 0}, {0, 1}}};  // logit 0 is 4·relu(x), logit 1 is 1
  EXPECT_DOUBLE_EQ(mlp.accuracy(p.view(), data, all_rows(data)), 0.75);
  EXPECT_EQ(mlp.accuracy(p.view(), data, {}), 0);
}

// Plain gradient descent with momentum on one worker.
class Training {
 public:
  explicit Training(std::uint64_t seed)
      : data_(read_csv(PENSTOCK_TEST_DATA "/digits.csv").value()),
        mlp_(data_.features, 64, data_.classes),
        parameters_(mlp_),
        gradients_(mlp_),
        velocity_(mlp_),
        seed_(seed),
        split_(split_rows(data_.rows(), 20, seed)) {
    scale_to_unit(data_);
    mlp_.initialize(seed, parameters_.tensors());
  }

  double run_epoch(std::uint64_t epoch) {
    constexpr std::size_t kBatch = 32;
    std::vector<RowIndex> order = split_.train;
    shuffle(order, seed_ + epoch);
    double loss = 0;
    for (std::size_t at = 0; at + kBatch <= order.size(); at += kBatch)
      loss += step(std::span(order).subspan(at, kBatch));
    return loss / static_cast<double>(order.size() / kBatch);
  }

  double held_out_accuracy() { return mlp_.accuracy(parameters_.view(), data_, split_.held_out); }
  const Buffers& parameters() const { return parameters_; }

 private:
  double step(std::span<const RowIndex> batch) {
    const double loss = mlp_.gradients(parameters_.view(), data_, batch,
                                       static_cast<double>(batch.size()), gradients_.tensors());
    for (std::size_t t = 0; t < Mlp::kTensors; ++t) {
      for (std::size_t i = 0; i < gradients_.memory[t].size(); ++i) {
        float& v = velocity_.memory[t][i];
        v = 0.9F * v + gradients_.memory[t][i];
        parameters_.memory[t][i] -= 0.05F * v;
      }
    }
    return loss;
  }

  Dataset data_;
  Mlp mlp_;
  Buffers parameters_, gradients_, velocity_;
  const std::uint64_t seed_;
  const Split split_;
};

TEST(Mlp, LearnsTheDigits) {
  Training training(1);
  const double first = training.run_epoch(0);
  double last = first;
  for (std::uint64_t epoch = 1; epoch < 10; ++epoch) last = training.run_epoch(epoch);
  EXPECT_LT(last, first / 4);
  EXPECT_GE(training.held_out_accuracy(), 0.95);
}

TEST(Mlp, LearnsTheSameBitsTwice) {
  Training one(3), two(3);
  for (std::uint64_t epoch = 0; epoch < 2; ++epoch) {
    one.run_epoch(epoch);
    two.run_epoch(epoch);
  }
  for (std::size_t t = 0; t < Mlp::kTensors; ++t)
    EXPECT_EQ(0, std::memcmp(one.parameters().memory[t].data(), two.parameters().memory[t].data(),
                             one.parameters().memory[t].size() * sizeof(float)));
}

}  // namespace
}  // namespace penstock::psbench

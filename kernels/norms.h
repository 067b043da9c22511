// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The passes over one slice that optimizers with whole-tensor norms are made of. norm_step.h puts
// them in order.
//
// Sums of squares are taken in double: element i of a slice goes to sum i mod 16, in order of i,
// and the sixteen are added as a tree, s[j] + s[j + 8], then 4, 2, 1. A square of a float is exact
// in double, so every target gives the same bits, whatever the alignment.

#include <string_view>

#include "kernels/update.h"

namespace penstock {

struct NormSums {
  double first = 0;   // Σg², or Σu²
  double second = 0;  // Σp²
  friend bool operator==(const NormSums&, const NormSums&) = default;
};

// lamb at one step (You et al. 2020, algorithm 2): m, v as adam; u = m̂/(√v̂ + ε) + wd·p;
// p −= lr·r·u, r = ‖p‖/‖u‖.
struct LambCoefficients {
  Coefficients moments;   // β1, β2, root_gain = 1/√(1−β2ᵗ), ε
  float moment_gain = 1;  // 1/(1−β1ᵗ)
  float weight_decay = 0;
  float rate = 0;  // −lr·r, for lamb_apply
};

// Every pointer to [count] elements of one slice; `sums` is what sum() wrote.
struct LambArgs {
  const float* sums = nullptr;
  float scale = 1;  // of the sums
  float* parameters = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  std::size_t count = 0;
};

// adafactor: u = g·scale·row·column, row and column by the element's place in its matrix.
struct FactorArgs {
  const float* sums = nullptr;
  float scale = 1;
  float* parameters = nullptr;
  std::size_t count = 0;
  std::uint64_t first = 0;  // of these elements, in the tensor
  std::uint64_t rows = 1;   // of one matrix; the tensor is a stack of them
  std::uint64_t columns = 1;
  const float* row_gain = nullptr;     // [matrices * rows]
  const float* column_gain = nullptr;  // [matrices * columns]
  double* row_sums = nullptr;          // as many
  double* column_sums = nullptr;
};

// Like KernelTable: immutable, any thread, allocates nothing, equal bits on all targets.
struct NormKernels {
  const char* target;

  // sums[i] = the scaled and clipped sum of the gradients, as `update` would give the rule; returns
  // {Σ sums², Σ parameters²}. Uses gradients, workers, gradient_dtype, codec, parameters, count and
  // scale. Traffic: W·g + 8.
  NormSums (*sum)(const UpdateArgs& args, float clip, float* sums);

  // Updates m and v; returns {Σu², Σp²}. Traffic: 24.
  NormSums (*lamb_moments)(const LambCoefficients& coefficients, const LambArgs& args);

  // p += rate·u, with u computed again. Traffic: 16.
  void (*lamb_apply)(const LambCoefficients& coefficients, const LambArgs& args);
};

// Of the same target as a KernelTable.
const NormKernels& norm_kernels(std::string_view target);

// adafactor's passes, the same code on every target: row_sums and column_sums += (g·scale)²; Σu²;
// p += step_gain·u + decay_gain·p.
void factor_sums(const FactorArgs& args);
double factor_norm(const FactorArgs& args);
void factor_apply(const FactorArgs& args, float step_gain, float decay_gain);

}  // namespace penstock

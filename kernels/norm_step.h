// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One tensor's update where it needs norms of the whole tensor: lars, lamb, adafactor, and every
// optimizer with clip_norm or clip_global_norm. It is made of passes over the tensor's slices; what
// the slices return is added in the order of the slices (add_in_order), wherever they are, before
// the next pass:
//
//   begin(step)
//   sum      every slice    parks the summed gradient        → Σg², Σp²
//     set_sums              if waits_for_sums()
//   factor   every slice    adafactor: means of g² by row and column; in the slices' order
//     set_factors           if has_factors()
//   direction  every slice  lamb, adafactor: moments         → Σu², Σp²
//     set_direction         if has_direction()
//   apply    every slice    parameters, state and wire
//
// Everything before `apply` leaves the parameters as they were. Non-finite sums are no error: a
// norm that is not a number clips nothing and gives ratio 1, an infinite one gives 0.
// Thread: one. Allocates when it is made, never later.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/norms.h"
#include "kernels/table.h"

namespace penstock {

// One slice. `sums` is as long as the slice and its own from `sum` to `apply`.
struct NormSlice {
  float* sums = nullptr;
  float* parameters = nullptr;
  void* state[kMaxStatePlanes] = {nullptr};
  void* wire = nullptr;  // nullptr: no output
  DType wire_dtype = DType::kFloat32;
  std::size_t count = 0;
  std::uint64_t first = 0;  // of its elements, in the tensor
};

// Left to right, in double.
NormSums add_in_order(std::span<const NormSums> parts);

class NormStep {
 public:
  // Of a tensor of this shape. `spec` is valid and needs_norms(); `kernels` outlives this.
  NormStep(const OptimizerSpec& spec, std::span<const std::uint64_t> shape,
           const KernelTable& kernels);

  void begin(std::uint64_t step);

  // args: gradients, workers, gradient_dtype, count and scale.
  NormSums sum(UpdateArgs args, const NormSlice& slice) const;
  bool waits_for_sums() const { return waits_for_sums_; }
  // `group`: Σg² of all tensors that are clipped together; unused without clip_global_norm.
  //   clip:  g *= c/‖g‖ where ‖g‖ > c, as TensorFlow and Paddle; PyTorch has c/(‖g‖ + 1e-6)
  //   lars:  ratio = c·‖p‖/(‖g‖ + wd·‖p‖ + ε), 1 where ‖p‖ or ‖g‖ is 0. You et al. 2017; Paddle
  void set_sums(const NormSums& tensor, double group);

  // adafactor (Shazeer & Stern 2018, algorithm 4, as in fairseq and transformers): the last two
  // dimensions are rows and columns, what stands before them a stack of such matrices, a vector is
  // one row. R = β2ᵗ·R + (1−β2ᵗ)·(mean of g² by row + ε), C by column;
  // u = g/(√(R/mean R)·√C); u /= max(1, RMS(u)/clip_threshold); p −= lr·u + lr·wd·p,
  // lr = min(learning_rate, 1/√t)·max(ε₂, RMS(p)).
  bool has_factors() const { return spec_.kind == OptimizerKind::kAdaFactor; }
  void factor(const NormSlice& slice);
  void set_factors();

  bool has_direction() const { return spec_.kind == OptimizerKind::kLamb || has_factors(); }
  NormSums direction(const NormSlice& slice) const;
  // lamb: ratio = ‖p‖/‖u‖, 1 where either is 0.
  void set_direction(const NormSums& tensor);

  // False when one of the slice's sums is not finite and the pass saw it: see KernelTable::update.
  bool apply(const NormSlice& slice) const;

  std::uint64_t memory_bytes() const;  // of the rows and columns

  // For who runs the passes elsewhere: the bound of `sum`, the parked sum's scale once set_sums()
  // has it, and what `direction` and `apply` go by, lamb's or the rule's.
  float clip() const { return clip_; }
  float scale() const { return scale_; }
  const LambCoefficients& lamb() const { return lamb_; }
  const Coefficients& coefficients() const { return coefficients_; }

 private:
  void fold_lars(double gradient_norm, double parameter_norm);
  FactorArgs factor_args(const NormSlice& slice) const;
  LambArgs lamb_args(const NormSlice& slice) const;

  const OptimizerSpec spec_;
  const KernelTable& kernels_;
  const NormKernels& norms_;
  const bool waits_for_sums_;
  double elements_ = 1;
  std::uint64_t rows_ = 1, columns_ = 1;  // of one matrix

  std::uint64_t step_ = 0;
  double rate_ = 0;
  float clip_ = kNoClip;
  float scale_ = 1;  // of the parked sum: the norm's clip
  Coefficients coefficients_;
  LambCoefficients lamb_;
  double parameter_rms_ = 0;
  float step_gain_ = 0, decay_gain_ = 0;  // adafactor's

  // adafactor's state and scratch, for every row and column of every matrix.
  struct Side {
    std::vector<float> mean, gain;
    mutable std::vector<double> sums;  // of this step; factor_args() hands out pointers
  };
  Side row_, column_;
};

}  // namespace penstock

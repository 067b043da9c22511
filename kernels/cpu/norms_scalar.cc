// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "kernels/cpu/codec_scalar.h"
#include "kernels/cpu/norms.h"
#include "kernels/cpu/scalar.h"
#include "kernels/cpu/scalar_vocabulary.h"
#include "kernels/math/half.h"
#include "kernels/math/norms-inl.h"
#include "kernels/math/optimizers-inl.h"

// norms.h on floats, element by element: what every other target must equal.

namespace penstock::scalar {
namespace {

struct Squares {
  double sums[kNormLanes] = {};
  void add(std::size_t i, float value) {
    sums[i % kNormLanes] += static_cast<double>(value) * static_cast<double>(value);
  }
  double total() { return add_up(sums); }
};

NormSums sum(const UpdateArgs& args, float clip, float* sums) {
  const void* present[kMaxWorkers];
  const std::uint32_t workers = present_gradients(Coefficients{}, args, present);
  std::optional<EncodedGradients> encoded;
  if (args.codec != nullptr) encoded.emplace(*args.codec, present, workers, args.count);
  const std::size_t element_bytes = dtype_bytes(args.gradient_dtype);
  Squares g2, p2;
  for (std::size_t i = 0; i < args.count; ++i) {
    float g = 0;
    if (encoded) sum_encoded(*encoded, i, i + 1, &g);
    for (std::uint32_t w = 0; !encoded && w < workers; ++w) {
      float value = 0;
      kKernels.decode(static_cast<const char*>(present[w]) + i * element_bytes, args.gradient_dtype,
                      &value, 1);
      g = w == 0 ? value : g + value;
    }
    sums[i] = canonical(clipped(g * args.scale, clip));
    g2.add(i, sums[i]);
    p2.add(i, args.parameters[i]);
  }
  return {g2.total(), p2.total()};
}

NormSums lamb_moments(const LambCoefficients& coefficients, const LambArgs& args) {
  const LambDirection<float> direction(coefficients);
  Squares u2, p2;
  for (std::size_t i = 0; i < args.count; ++i) {
    float state[2] = {args.m[i], args.v[i]};
    direction.moments(args.sums[i] * args.scale, state);
    args.m[i] = canonical(state[0]);
    args.v[i] = canonical(state[1]);
    u2.add(i, direction(args.parameters[i], state[0], state[1]));
    p2.add(i, args.parameters[i]);
  }
  return {u2.total(), p2.total()};
}

void lamb_apply(const LambCoefficients& coefficients, const LambArgs& args) {
  const LambDirection<float> direction(coefficients);
  for (std::size_t i = 0; i < args.count; ++i) {
    const float u = direction(args.parameters[i], args.m[i], args.v[i]);
    args.parameters[i] = canonical(fma(coefficients.rate, u, args.parameters[i]));
  }
}

}  // namespace

const NormKernels kNormKernels = {"scalar", sum, lamb_moments, lamb_apply};

}  // namespace penstock::scalar

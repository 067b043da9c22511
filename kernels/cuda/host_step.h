// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The GPU's body run by the CPU, for tests: what a launch does, in an order of the caller's choice.

#include "kernels/cuda/step-inl.h"

namespace penstock::cuda {

struct HostContext {
  std::uint32_t block_index, thread_index;
  std::uint32_t block() const { return block_index; }
  std::uint32_t thread() const { return thread_index; }
};

template <class Gradient>
void step_on_host(const SliceStep* slices, std::uint32_t count, const HostContext& context) {
  with_rule<float>(slices[0].coefficients, [&](const auto& rule) {
    using Rule = std::remove_cvref_t<decltype(rule)>;
    step_body<Gradient, Rule>(context, slices, count);
  });
}

// One thread of a launch over slices of one rule.
inline void step_on_host(const SliceStep* slices, std::uint32_t count, DType gradient_dtype,
                         const HostContext& context) {
  switch (gradient_dtype) {
    case DType::kFloat32:
      return step_on_host<Float32>(slices, count, context);
    case DType::kFloat16:
      return step_on_host<Float16>(slices, count, context);
    case DType::kBfloat16:
      return step_on_host<Bfloat16>(slices, count, context);
  }
}

}  // namespace penstock::cuda

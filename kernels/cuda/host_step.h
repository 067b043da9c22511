// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The GPU's body run by the CPU, for tests: what a launch does, in an order of the caller's choice.

#include "kernels/cuda/step-inl.h"

namespace penstock::cuda {

struct HostContext {
  std::uint32_t block_index, thread_index;
  PENSTOCK_DEVICE std::uint32_t block() const { return block_index; }
  PENSTOCK_DEVICE std::uint32_t thread() const { return thread_index; }
};

// One thread of a launch over slices of one rule.
inline void step_on_host(const SliceStep* slices, std::uint32_t count, GradientType gradients,
                         const HostContext& context) {
  with_gradients(gradients, [&](auto source) {
    with_rule<float>(slices[0].coefficients, [&](const auto& rule) {
      using Rule = std::remove_cvref_t<decltype(rule)>;
      step_body<decltype(source), Rule>(context, slices, count);
    });
  });
}

}  // namespace penstock::cuda

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.h"

#include "kernels/cuda/device_context.h"
#include "kernels/cuda/step-inl.h"

namespace penstock::cuda {
namespace {

// Blocks that must fit on a multiprocessor, 0 for the compiler's choice. Where gradients are
// decoded, sm_100's wants four and spills for it; three leave up to 80 registers a thread.
template <class Gradients>
constexpr int kBlocks = std::is_same_v<Gradients, Encoded> ? 3 : 0;

template <class Gradients, class Rule>
__global__ void __launch_bounds__(kThreads, kBlocks<Gradients>)
    update_kernel(const SliceStep* slices, std::uint32_t count) {
  step_body<Gradients, Rule>(DeviceContext(), slices, count);
}

template <class Gradients>
void launch(UpdateRule rule, const SliceStep* slices, std::uint32_t count, std::uint32_t blocks,
            cudaStream_t stream) {
  Coefficients which;
  which.rule = rule;
  with_rule<float>(which, [&](const auto& made) {
    using Rule = std::remove_cv_t<std::remove_reference_t<decltype(made)>>;
    update_kernel<Gradients, Rule><<<blocks, kThreads, 0, stream>>>(slices, count);
  });
}

}  // namespace

cudaError_t launch_update(UpdateRule rule, GradientType gradients, const SliceStep* slices,
                          std::uint32_t count, std::uint32_t blocks, cudaStream_t stream) {
  if (count == 0 || blocks == 0) return cudaSuccess;
  with_gradients(gradients, [&](auto source) {
    launch<decltype(source)>(rule, slices, count, blocks, stream);
  });
  return cudaGetLastError();
}

}  // namespace penstock::cuda

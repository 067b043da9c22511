// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.h"

#include "kernels/cuda/step-inl.h"

namespace penstock::cuda {
namespace {

struct DeviceContext {
  __device__ std::uint32_t block() const { return blockIdx.x; }
  __device__ std::uint32_t thread() const { return threadIdx.x; }
};

template <class Gradient, class Rule>
__global__ void __launch_bounds__(kThreads)
    update_kernel(const SliceStep* slices, std::uint32_t count) {
  step_body<Gradient, Rule>(DeviceContext(), slices, count);
}

template <class Gradient>
void launch(UpdateRule rule, const SliceStep* slices, std::uint32_t count, std::uint32_t blocks,
            cudaStream_t stream) {
  Coefficients which;
  which.rule = rule;
  with_rule<float>(which, [&](const auto& made) {
    using Rule = std::remove_cv_t<std::remove_reference_t<decltype(made)>>;
    update_kernel<Gradient, Rule><<<blocks, kThreads, 0, stream>>>(slices, count);
  });
}

}  // namespace

cudaError_t launch_update(UpdateRule rule, DType gradient_dtype, const SliceStep* slices,
                          std::uint32_t count, std::uint32_t blocks, cudaStream_t stream) {
  if (count == 0 || blocks == 0) return cudaSuccess;
  switch (gradient_dtype) {
    case DType::kFloat32:
      launch<Float32>(rule, slices, count, blocks, stream);
      break;
    case DType::kFloat16:
      launch<Float16>(rule, slices, count, blocks, stream);
      break;
    case DType::kBfloat16:
      launch<Bfloat16>(rule, slices, count, blocks, stream);
      break;
  }
  return cudaGetLastError();
}

}  // namespace penstock::cuda

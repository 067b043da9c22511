// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/pass_launch.h"

#include "kernels/cuda/device_context.h"
#include "kernels/cuda/pass-inl.h"
#include "kernels/cuda/squares-inl.h"
#include "kernels/cuda/top_k-inl.h"

namespace penstock::cuda {
namespace {

template <class Gradients>
__global__ void __launch_bounds__(kThreads)
    park_kernel(const SlicePass* slices, std::uint32_t count) {
  park_body<Gradients>(DeviceContext(), slices, count);
}

__global__ void __launch_bounds__(kThreads)
    lamb_moments_kernel(const SlicePass* slices, std::uint32_t count) {
  lamb_moments_body(DeviceContext(), slices, count);
}

__global__ void __launch_bounds__(kThreads)
    lamb_apply_kernel(const SlicePass* slices, std::uint32_t count) {
  lamb_apply_body(DeviceContext(), slices, count);
}

__global__ void __launch_bounds__(kThreads) top_k_kernel(const SlicePass* slices) {
  __shared__ TopKShared shared;
  const SlicePass& slice = slices[blockIdx.x];
  const std::uint32_t thread = threadIdx.x;
  const std::uint64_t rounds = top_k_rounds(slice);
  top_k_clear(slice, shared, thread);
  for (std::uint32_t worker = 0; worker < slice.workers; ++worker)
    for (std::uint64_t round = 0; round < rounds; ++round) {
      top_k_read(slice, shared, thread, worker, round);
      __syncthreads();
      top_k_scan(shared, thread);
      __syncthreads();
      top_k_add(slice, shared, thread, worker, round);
      __syncthreads();
      if (thread == 0) top_k_go_on(slice, shared, round);
    }
}

__global__ void __launch_bounds__(kThreads) squares_kernel(const SlicePass* slices) {
  __shared__ SquaresShared shared;
  const SlicePass& slice = slices[blockIdx.x];
  const std::uint32_t thread = threadIdx.x;
  double sum = 0;
  for (std::uint64_t begin = 0; begin < slice.count; begin += SquaresShared::kTile) {
    squares_load(slice, shared, thread, begin);
    __syncthreads();
    if (thread < kSquareLanes) sum = squares_add(shared, thread, sum);
    __syncthreads();
  }
  if (thread < kSquareLanes) squares_keep(shared, thread, sum);
  __syncthreads();
  if (thread == 0) squares_finish(slice, shared);
}

}  // namespace

cudaError_t launch_pass(Pass pass, GradientType gradients, const SlicePass* slices,
                        std::uint32_t count, std::uint32_t blocks, cudaStream_t stream) {
  if (count == 0 || blocks == 0) return cudaSuccess;
  switch (pass) {
    case Pass::kPark:
      with_gradients(gradients, [&](auto source) {
        park_kernel<decltype(source)><<<blocks, kThreads, 0, stream>>>(slices, count);
      });
      break;
    case Pass::kTopK:
      top_k_kernel<<<count, kThreads, 0, stream>>>(slices);
      break;
    case Pass::kSquares:
      squares_kernel<<<count, kThreads, 0, stream>>>(slices);
      break;
    case Pass::kLambMoments:
      lamb_moments_kernel<<<blocks, kThreads, 0, stream>>>(slices, count);
      break;
    case Pass::kLambApply:
      lamb_apply_kernel<<<blocks, kThreads, 0, stream>>>(slices, count);
      break;
  }
  return cudaGetLastError();
}

}  // namespace penstock::cuda

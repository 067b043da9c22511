// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/encode_launch.h"

#include "kernels/cuda/top_k_encode-inl.h"

namespace penstock::cuda {
namespace {

template <CodecKind kKind>
__global__ void __launch_bounds__(kThreads)
    encode_bits_kernel(const SliceEncode* slices, std::uint32_t count) {
  const SliceEncode& slice = find_slice(slices, count, blockIdx.x);
  if constexpr (kKind == CodecKind::kTwoBit)
    encode_two_bits(slice, blockIdx.x - slice.first_block, threadIdx.x);
  else
    encode_one_bits(slice, blockIdx.x - slice.first_block, threadIdx.x);
}

template <CodecKind kKind>
__global__ void __launch_bounds__(kThreads)
    encode_blocks_kernel(const SliceEncode* slices, std::uint32_t count) {
  __shared__ EncodeShared shared;
  const SliceEncode& slice = find_slice(slices, count, blockIdx.x);
  const std::uint32_t block = blockIdx.x - slice.first_block;
  encode_clear(shared, threadIdx.x);
  __syncthreads();
  encode_correct(slice, shared, block, threadIdx.x,
                 [](std::uint32_t& word, std::uint32_t bits) { atomicMax(&word, bits); });
  __syncthreads();
  encode_quantize<kKind>(slice, shared, block, threadIdx.x);
}

__global__ void __launch_bounds__(kThreads, 4) encode_top_k_kernel(const SliceEncode* slices) {
  __shared__ TopKEncodeShared shared;
  const SliceEncode& slice = slices[blockIdx.x];
  const std::uint32_t thread = threadIdx.x;
  top_k_correct(slice, shared, thread);
  __syncthreads();
  for (std::uint32_t which = 0; which < kTopKDigits; ++which) {
    const TopKDigit digit = top_k_digit(which);
    top_k_count(slice, shared, thread, digit, [](std::uint32_t& word) { atomicAdd(&word, 1U); });
    __syncthreads();
    if (thread == 0) top_k_pick(shared, digit);
    __syncthreads();
    top_k_clear_histogram(shared, thread);
    __syncthreads();
  }
  for (std::uint64_t round = 0; round < top_k_encode_rounds(slice); ++round) {
    top_k_mark(slice, shared, thread, round);
    __syncthreads();
    top_k_sum(shared, thread);
    __syncthreads();
    top_k_send(slice, shared, thread, round);
    __syncthreads();
    if (thread == 0) top_k_sent_so_far(shared);
  }
}

}  // namespace

cudaError_t launch_encode(CodecKind kind, const SliceEncode* slices, std::uint32_t count,
                          std::uint32_t blocks, cudaStream_t stream) {
  using enum CodecKind;
  if (kind == kNone) return cudaErrorInvalidValue;
  if (count == 0 || blocks == 0) return cudaSuccess;
  if (kind == kFp8E4M3)
    encode_blocks_kernel<kFp8E4M3><<<blocks, kThreads, 0, stream>>>(slices, count);
  else if (kind == kFp8E5M2)
    encode_blocks_kernel<kFp8E5M2><<<blocks, kThreads, 0, stream>>>(slices, count);
  else if (kind == kInt8)
    encode_blocks_kernel<kInt8><<<blocks, kThreads, 0, stream>>>(slices, count);
  else if (kind == kTwoBit)
    encode_bits_kernel<kTwoBit><<<blocks, kThreads, 0, stream>>>(slices, count);
  else if (kind == kTopK)
    encode_top_k_kernel<<<count, kThreads, 0, stream>>>(slices);
  else
    encode_bits_kernel<kOneBit><<<blocks, kThreads, 0, stream>>>(slices, count);
  return cudaGetLastError();
}

}  // namespace penstock::cuda

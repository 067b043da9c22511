// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/rows_launch.h"

#include "kernels/cuda/rows-inl.h"
#include "kernels/cuda/step.h"

namespace penstock::cuda {
namespace {

// Blocks that must fit on a multiprocessor: up to 80 registers a thread. For more blocks, sm_90's
// compiler spills.
constexpr int kBlocks = 3;

template <class Rule>
__global__ void __launch_bounds__(kThreads, kBlocks)
    rows_kernel(const RowCoefficients coefficients, const RowUpdateArgs args, bool aligned) {
  const std::uint64_t thread = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const RowLane at = {thread / kRowThreads, static_cast<std::uint32_t>(thread % kRowThreads)};
  const Rule rule(coefficients);
  OpenRow<Rule> row = open_lane(rule, coefficients, args, at, aligned);
  for (int k = 0; k < int{Rule::kMeans}; ++k)
    for (float& sum : row.sums[k]) {  // all threads of a warp are here, rowless ones with 0
      sum += __shfl_xor_sync(0xffff'ffff, sum, 2);
      sum += __shfl_xor_sync(0xffff'ffff, sum, 1);
    }
  step_lane(rule, coefficients, args, at, row, aligned);
}

}  // namespace

cudaError_t launch_rows(const RowCoefficients& coefficients, const RowUpdateArgs& args,
                        cudaStream_t stream) {
  if (args.coverage != RowCoverage::kTouched) return cudaErrorInvalidValue;
  if (args.count == 0) return cudaSuccess;
  const std::uint64_t threads = std::uint64_t{args.count} * kRowThreads;
  const auto blocks = static_cast<std::uint32_t>((threads + kThreads - 1) / kThreads);
  const bool aligned = rows_aligned(args, row_planes(coefficients));
  with_row_rule<float>(coefficients, [&](const auto& made) {
    using Rule = std::remove_cv_t<std::remove_reference_t<decltype(made)>>;
    rows_kernel<Rule><<<blocks, kThreads, 0, stream>>>(coefficients, args, aligned);
  });
  return cudaGetLastError();
}

}  // namespace penstock::cuda

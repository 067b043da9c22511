// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/vector.h"

// Compiled once per target by Highway. Targets that could not give equal bits (no fused
// multiply-add) or bring nothing over a neighbour are left out.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#define HWY_TARGET_INCLUDE "kernels/cpu/vector.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#if HWY_NATIVE_FMA && !HWY_HAVE_SCALABLE
#include "kernels/cpu/codec_vector-inl.h"
#include "kernels/cpu/convert-inl.h"
#include "kernels/cpu/finite-inl.h"
#include "kernels/cpu/update-inl.h"

namespace penstock::HWY_NAMESPACE {
bool update_bf16_state(const Coefficients& coefficients, const UpdateArgs& args);  // bf16_state.cc

static bool update(const Coefficients& coefficients, const UpdateArgs& args) {
  return coefficients.state_dtype == StateDType::kFloat32
             ? update_with<Float32State>(coefficients, args)
             : update_bf16_state(coefficients, args);
}

extern const KernelTable kKernels;
const KernelTable kKernels = {
    hwy::TargetName(HWY_TARGET), update, encode, decode, finite, &kCodecs};
}  // namespace penstock::HWY_NAMESPACE
#endif

#if HWY_ONCE
namespace penstock {
namespace {

constexpr VectorTarget kTargets[] = {
#if HWY_TARGETS & HWY_NEON
    {HWY_NEON, &N_NEON::kKernels},
#endif
#if HWY_TARGETS & HWY_AVX2
    {HWY_AVX2, &N_AVX2::kKernels},
#endif
#if HWY_TARGETS & HWY_AVX3
    {HWY_AVX3, &N_AVX3::kKernels},
#endif
    {0, nullptr}};  // so that a build without any still has an array

}  // namespace

std::span<const VectorTarget> vector_targets() {
  return std::span(kTargets).first(std::size(kTargets) - 1);
}

}  // namespace penstock
#endif

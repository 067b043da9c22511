// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/norms.h"

// Compiled once per target by Highway, for the targets of vector.cc.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#define HWY_TARGET_INCLUDE "kernels/cpu/norms.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#if HWY_NATIVE_FMA && !HWY_HAVE_SCALABLE
#include "kernels/cpu/norms-inl.h"

namespace penstock::HWY_NAMESPACE {
extern const NormKernels kNormKernels;
const NormKernels kNormKernels = {hwy::TargetName(HWY_TARGET), sum, lamb_moments, lamb_apply};
}  // namespace penstock::HWY_NAMESPACE
#endif

#if HWY_ONCE
#include "transport/base/check.h"

namespace penstock {

const NormKernels& norm_kernels(std::string_view target) {
  static constexpr const NormKernels* kAll[] = {
#if HWY_TARGETS & HWY_NEON
    &N_NEON::kNormKernels,
#endif
#if HWY_TARGETS & HWY_AVX2
    &N_AVX2::kNormKernels,
#endif
#if HWY_TARGETS & HWY_AVX3
    &N_AVX3::kNormKernels,
#endif
    &scalar::kNormKernels
  };
  for (const NormKernels* kernels : kAll)
    if (kernels->target == target) return *kernels;
  CHECK(false, "no norm kernels for {}", target);
}

}  // namespace penstock
#endif

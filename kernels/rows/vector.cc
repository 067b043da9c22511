// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows/vector.h"

// Compiled once per target by Highway; the targets are those of cpu/vector.cc.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#define HWY_TARGET_INCLUDE "kernels/rows/vector.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#if HWY_NATIVE_FMA && !HWY_HAVE_SCALABLE
#include "kernels/rows/merge-inl.h"
#include "kernels/rows/update-inl.h"

namespace penstock::HWY_NAMESPACE {
extern const RowKernels kRowKernels;
const RowKernels kRowKernels = {hwy::TargetName(HWY_TARGET), update_rows, merge_rows};
}  // namespace penstock::HWY_NAMESPACE
#endif

#if HWY_ONCE
namespace penstock {
namespace {

constexpr VectorRowTarget kTargets[] = {
#if HWY_TARGETS & HWY_NEON
    {HWY_NEON, &N_NEON::kRowKernels},
#endif
#if HWY_TARGETS & HWY_AVX2
    {HWY_AVX2, &N_AVX2::kRowKernels},
#endif
#if HWY_TARGETS & HWY_AVX3
    {HWY_AVX3, &N_AVX3::kRowKernels},
#endif
    {0, nullptr}};  // so that a build without any still has an array

}  // namespace

std::span<const VectorRowTarget> vector_row_targets() {
  return std::span(kTargets).first(std::size(kTargets) - 1);
}

}  // namespace penstock
#endif

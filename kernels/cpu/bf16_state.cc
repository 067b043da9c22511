// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The fused update on bf16 state, apart from vector.cc so that both compile at once.

#include "kernels/update.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)  // as in vector.cc
#define HWY_TARGET_INCLUDE "kernels/cpu/bf16_state.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#if HWY_NATIVE_FMA && !HWY_HAVE_SCALABLE
#include "kernels/cpu/update-inl.h"

namespace penstock::HWY_NAMESPACE {
bool update_bf16_state(const Coefficients& coefficients, const UpdateArgs& args);
bool update_bf16_state(const Coefficients& coefficients, const UpdateArgs& args) {
  return update_with<Bfloat16State>(coefficients, args);
}
}  // namespace penstock::HWY_NAMESPACE
#endif

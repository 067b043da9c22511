// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The codecs, compiled once per target by Highway; for the same targets as vector.cc.

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#define HWY_TARGET_INCLUDE "kernels/cpu/codec_vector.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#if HWY_NATIVE_FMA && !HWY_HAVE_SCALABLE
#include "kernels/cpu/codec_encode-inl.h"
#include "kernels/cpu/codec_vector-inl.h"

namespace penstock::HWY_NAMESPACE {
const CodecKernels kCodecs = {encode_gradient, decode_gradient};
}  // namespace penstock::HWY_NAMESPACE
#endif

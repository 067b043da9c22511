// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What cpu/codec_vector.cc has for the target that is being compiled. Included after Highway, once
// per target.

#if defined(PENSTOCK_KERNELS_CPU_CODEC_VECTOR_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_CODEC_VECTOR_H
#undef PENSTOCK_KERNELS_CPU_CODEC_VECTOR_H
#else
#define PENSTOCK_KERNELS_CPU_CODEC_VECTOR_H
#endif

#include "kernels/codec/encoded_sum.h"
#include "kernels/codec/kernels.h"

namespace penstock::HWY_NAMESPACE {

extern const CodecKernels kCodecs;

// sums[i − begin] = the elements' sum in rank order, +0 without any; `begin` is a multiple of
// kSummedAtOnce, and parts follow one another.
void sum_encoded(EncodedGradients& encoded, std::size_t begin, std::size_t end, float* sums);

}  // namespace penstock::HWY_NAMESPACE

#endif

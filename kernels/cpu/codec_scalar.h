// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/codec/encoded_sum.h"
#include "kernels/codec/kernels.h"

namespace penstock::scalar {

// The codecs, element by element: the reference.
extern const CodecKernels kCodecs;

// sums[i − begin] = the elements' sum in rank order, +0 without any; parts follow one another.
void sum_encoded(EncodedGradients& encoded, std::size_t begin, std::size_t end, float* sums);

}  // namespace penstock::scalar

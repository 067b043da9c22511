// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The vocabulary of math/optimizers-inl.h on a float that a GPU or the host computes with. nvcc's
// division and square root round as IEEE 754 says unless told otherwise; -fmad=false keeps it from
// fusing what is not fused here.

#define PENSTOCK_TARGET_CUDA

#include <cmath>

#include "kernels/math/half.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

template <class V>
PENSTOCK_DEVICE inline V splat(float value) {
  return value;
}
PENSTOCK_DEVICE inline float add(float a, float b) { return a + b; }
PENSTOCK_DEVICE inline float sub(float a, float b) { return a - b; }
PENSTOCK_DEVICE inline float mul(float a, float b) { return a * b; }
PENSTOCK_DEVICE inline float div(float a, float b) { return a / b; }
PENSTOCK_DEVICE inline float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
PENSTOCK_DEVICE inline float fnma(float a, float b, float c) { return ::fmaf(-a, b, c); }
PENSTOCK_DEVICE inline float root(float a) { return ::sqrtf(a); }
PENSTOCK_DEVICE inline float magnitude(float a) { return ::fabsf(a); }
PENSTOCK_DEVICE inline float copy_sign(float a, float b) { return ::copysignf(a, b); }
PENSTOCK_DEVICE inline float larger(float a, float b) { return a > b ? a : b; }
PENSTOCK_DEVICE inline float where_at_most_zero(float a, float b, float c) {
  return a <= 0 ? b : c;
}

PENSTOCK_END_TARGET

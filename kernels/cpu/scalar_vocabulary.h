// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The vocabulary of math/*-inl.h on plain floats; before those headers.

#include <cmath>

namespace penstock::scalar {

template <class V>
inline V splat(float value) {
  return value;
}
inline float add(float a, float b) { return a + b; }
inline float sub(float a, float b) { return a - b; }
inline float mul(float a, float b) { return a * b; }
inline float div(float a, float b) { return a / b; }
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }  // a·b + c, rounded once
inline float fnma(float a, float b, float c) { return std::fma(-a, b, c); }
inline float root(float a) { return std::sqrt(a); }
inline float magnitude(float a) { return std::abs(a); }
inline float copy_sign(float a, float b) { return std::copysign(a, b); }
inline float larger(float a, float b) { return a > b ? a : b; }
inline float where_at_most_zero(float a, float b, float c) { return a <= 0 ? b : c; }

}  // namespace penstock::scalar

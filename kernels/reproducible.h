// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Functions whose last bit differs between C libraries, from + − × ÷ in double alone, hence the
// same bits on every machine; to about 1e-16.

#include <bit>
#include <cmath>
#include <cstdint>

namespace penstock {

// Natural logarithm of a normal positive double: x = m·2ᵉ with m near 1, and log m = 2·artanh(s),
// s = (m−1)/(m+1), |s| < 0.172, as a series.
inline double logarithm(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000f'ffff'ffff'ffff) | 0x3ff0'0000'0000'0000);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1) / (m + 1);
  const double square = s * s;
  double series = 0;
  for (int odd = 21; odd >= 1; odd -= 2) series = series * square + 1.0 / odd;
  return 2 * s * series + static_cast<double>(exponent) * 0.6931471805599453;
}

// e to the x, −700 ≤ x ≤ 700: x = n·log 2 + r, 0 ≤ r < log 2, and eʳ as a series.
inline double exponential(double x) {
  const double n = std::floor(x / 0.6931471805599453);  // floor is exact
  const double r = x - n * 0.6931471805599453;
  double series = 1;
  for (int i = 20; i >= 1; --i) series = 1 + series * r / i;
  return series * std::bit_cast<double>((static_cast<std::int64_t>(n) + 1023) << 52);
}

}  // namespace penstock

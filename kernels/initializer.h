// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Initial values that any server, any slicing and any machine computes alike: element i of a key is
// a function of (seed, key, i) only.

#include <cstdint>
#include <span>

#include "transport/base/status.h"

namespace penstock {

// Plain data; travels with a tensor's declaration.
struct InitializerSpec {
  // The values go on the wire; never renumber.
  enum Kind : std::uint8_t {
    kZeros = 0,
    kConstant = 1,  // a
    kUniform = 2,   // between a and b
    kNormal = 3,    // mean a, standard deviation b
  };
  Kind kind = kZeros;
  double a = 0;
  double b = 0;
  std::uint64_t seed = 0;

  friend bool operator==(const InitializerSpec&, const InitializerSpec&) = default;
};

// kInvalidArgument naming the field and its value: unknown kind, a or b not finite as float32,
// uniform with a > b, normal with b < 0.
Status validate(const InitializerSpec& spec);

// Fills `values` with the elements first_element, first_element + 1, … of `key`.
//
// Counter-based: 64 random bits per element are SplitMix64's mix of (seed, key, element). Uniform
// is a + (b − a)·u in double, u a multiple of 2⁻⁵³ in [0, 1), rounded once to float (so b itself
// can appear by rounding). Normal is a + b·z, z the inverse of the normal distribution function by
// Wichura's rational approximation AS 241 (PPND16, error about 1e-16) with a logarithm of
// our own: only + − × ÷ √ in double, no libm, hence the same bits everywhere. |z| < 8.3. The spec
// is valid. Thread: any.
void initialize(const InitializerSpec& spec, std::uint64_t key, std::uint64_t first_element,
                std::span<float> values);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Element types of gradients and outgoing parameters. Masters and optimizer state are float32.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace penstock {

// The values go on the wire; never renumber.
enum class DType : std::uint8_t {
  kFloat32 = 0,   // IEEE binary32
  kFloat16 = 1,   // IEEE binary16: 1 sign, 5 exponent, 10 fraction bits
  kBfloat16 = 2,  // the upper half of binary32: 1 sign, 8 exponent, 7 fraction bits
};

constexpr bool is_dtype(std::uint8_t value) { return value <= 2; }

// Bytes of one element.
constexpr std::size_t dtype_bytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// "fp32", "fp16", "bf16".
std::string_view dtype_name(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sizes as people type and read them: binary suffixes K, M, G (2¹⁰, 2²⁰, 2³⁰).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/status.h"

namespace penstock::psbench {

inline constexpr std::uint64_t kMaxSizeBytes = std::uint64_t{1} << 40;  // beyond any host we know
inline constexpr std::size_t kMaxSizes = 1000;  // a sweep longer than this is a typing error

// "4096", "4K", "64M", "1G". kInvalidArgument for 0, for more than kMaxSizeBytes and for anything
// else.
Result<std::uint64_t> parse_size(std::string_view text);

// A comma-separated list of sizes and of ranges FROM:TO:STEP, both ends included; STEP is "xN" (N ≥
// 2) or "+SIZE"; without a step it is x2. "4K:64M:x4", "4K,1M", "1M:4M:+1M".
Result<std::vector<std::uint64_t>> parse_sizes(std::string_view text);

// "4K", "64M", "1.2G": rounded to one decimal where it does not divide; print exact bytes beside
// it.
std::string format_size(std::uint64_t bytes);

}  // namespace penstock::psbench

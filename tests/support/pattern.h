// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Position-dependent bytes: two seeds or two positions hardly ever agree over 8 bytes.

#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock::test {

void fill_pattern(std::span<std::byte> bytes, std::uint64_t seed);
bool has_pattern(std::span<const std::byte> bytes, std::uint64_t seed);
bool all_zero(std::span<const std::byte> bytes);

}  // namespace penstock::test

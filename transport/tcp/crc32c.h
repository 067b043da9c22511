// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock::tcp {

// CRC-32C (Castagnoli, polynomial 0x1EDC6F41, RFC 3720 appendix B.4) with the processor's
// instruction where there is one, else by table. Both give the same value. Any thread.
std::uint32_t crc32c(std::span<const std::byte> bytes);

// The table version alone; the tests compare the two.
std::uint32_t crc32c_by_table(std::span<const std::byte> bytes);

}  // namespace penstock::tcp

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a send of a MessageStream begins with. Host order: both ends are little-endian, as
// everywhere on data connections.

#include <cstdint>

namespace penstock {

enum MessageFrameKind : std::uint8_t {
  kStart = 1,  // a message: its sizes, meta and, of an eager one, its first bytes
  kMore = 2,   // its next bytes
  kGrant = 3,  // wire::MessageGrant: where the parts of an offered one go
};

struct MessageFrame {
  std::uint8_t kind = 0;
  std::uint8_t parts = 0;
  std::uint16_t meta_bytes = 0;
  std::uint32_t unused = 0;
  std::uint64_t sequence = 0;
};

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What process_test.cc tells the process of peer.cc.

#include "tests/bindings/nccl/plugin.h"

namespace penstock::test {

inline constexpr std::size_t kPeerBytes = 100'000;

struct PeerOrder {
  int version = 0;
  int device = 0;
  int sends = 0;
  HandleBytes handle{};
};

}  // namespace penstock::test

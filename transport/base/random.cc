// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/base/random.h"

#include <sys/random.h>

#include "transport/base/check.h"

namespace penstock {

void random_bytes(std::span<unsigned char> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
    CHECK(got > 0, "getrandom failed");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

std::uint64_t random_u64() {
  std::uint64_t value = 0;
  while (value == 0) random_bytes({reinterpret_cast<unsigned char*>(&value), sizeof value});
  return value;
}

}  // namespace penstock

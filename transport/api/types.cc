// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/api/types.h"

#include "transport/base/random.h"

namespace penstock {

std::string_view provider_name(ProviderKind kind) {
  switch (kind) {
    case ProviderKind::kLoopback:
      return "loopback";
    case ProviderKind::kTcp:
      return "tcp";
  }
  return "unknown";
}

Token random_token() {
  Token token;
  random_bytes(token);
  return token;
}

}  // namespace penstock

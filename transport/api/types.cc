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
    case ProviderKind::kShm:
      return "shm";
    case ProviderKind::kVerbs:
      return "verbs";
    case ProviderKind::kUcx:
      return "ucx";
    case ProviderKind::kAuto:
      return "auto";
  }
  return "unknown";
}

Token random_token() {
  Token token;
  random_bytes(token);
  return token;
}

}  // namespace penstock

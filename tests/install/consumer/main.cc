// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A program of somebody else's, built against an installed Penstock.

#include <fmt/format.h>

#include "transport/api/device.h"
#include "transport/base/random.h"
#include "transport/base/status.h"

namespace {
penstock::Result<penstock::Token> fresh_token() {
  const penstock::Token token = penstock::random_token();
  if (token == penstock::Token{})
    return penstock::Status(penstock::Code::kSystem, "the token is all zero");
  return token;
}
}  // namespace

int main() {
  const penstock::Result<penstock::Token> token = fresh_token();
  if (!token.ok()) {
    fmt::print("{}\n", token.status().to_string());
    return 1;
  }
  fmt::print("{} token of {} bytes\n", penstock::provider_name(penstock::ProviderKind::kTcp),
             token.value().size());
  return 0;
}

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a control message: decode() refuses them or gives something whose every field
// can be read, converted and packed again.

#include <cstddef>
#include <cstdint>

#include "engine/protocol/messages.h"

namespace {

using namespace penstock;  // NOLINT: a program of one file

void convert(const wire::MessageT& message) {
  if (const auto* join = message.body.AsJoin()) (void)from_wire(join->member);
  if (const auto* hello = message.body.AsHello()) (void)from_wire(hello->member);
  if (const auto* roster = message.body.AsRoster()) (void)from_wire(roster->members);
  if (const auto* commit = message.body.AsCommit()) (void)from_wire(commit->declarations);
  if (const auto* call = message.body.AsCollective()) (void)from_wire(call->declarations);
  if (const auto* lend = message.body.AsLend()) (void)from_wire(lend->parameters);
  if (const auto* grant = message.body.AsGrant()) (void)from_wire(grant->slots);
  if (const auto* opened = message.body.AsLaneOpened()) (void)token_from_wire(opened->token);
  if (const auto* membership = message.body.AsMembership()) (void)from_wire(membership->lost);
  if (const auto* stop = message.body.AsStop()) (void)from_wire(stop->error).to_string();
  if (const auto* report = message.body.AsReport()) (void)from_wire(report->error).to_string();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Result<wire::MessageT> message = decode(std::as_bytes(std::span(data, size)));
  if (!message.ok()) return 0;
  convert(*message);
  const std::vector<std::byte> again = encode(*message);
  CHECK(decode(again).ok(), "what was decoded does not survive encoding");
  return 0;
}

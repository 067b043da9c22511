// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/parts/post.h"

#include <fmt/format.h>

#include "transport/api/device.h"

namespace penstock::parts {
namespace {

Status bad(const char* what) { return {Code::kInvalidArgument, what}; }

Status check(const WorkRequest& request, ProviderKind kind, std::uint32_t max_message_bytes) {
  if (request.has_immediate && request.opcode != Opcode::kWrite)
    return bad("post: only a write carries an immediate");
  if (request.opcode == Opcode::kSend && request.length > max_message_bytes)
    return bad("post: the message is too long");
  if (request.length == 0) return {};
  if (request.local == nullptr) return bad("post: no local bytes");
  const std::size_t here = request.local->bytes().size();
  if (request.local_offset > here || request.length > here - request.local_offset)
    return bad("post: local bytes outside their region");
  if (request.opcode == Opcode::kSend) return {};
  if (request.remote == nullptr) return bad("post: no remote region");
  if (!request.remote->reachable_by(kind) || request.remote->version != RemoteRegion::kVersion)
    return {Code::kInvalidArgument,
            fmt::format("post: the remote region is not one of {}'s", provider_name(kind))};
  return {};
}

}  // namespace

Status check(std::span<const WorkRequest> work, ProviderKind kind,
             std::uint32_t max_message_bytes) {
  for (const WorkRequest& request : work)
    PENSTOCK_RETURN_IF_ERROR(check(request, kind, max_message_bytes));
  return {};
}

Event done_event(Opcode opcode) {
  switch (opcode) {
    case Opcode::kWrite:
      return Event::kWriteDone;
    case Opcode::kRead:
      return Event::kReadDone;
    case Opcode::kSend:
      return Event::kSendDone;
  }
  return Event::kWriteDone;
}

}  // namespace penstock::parts

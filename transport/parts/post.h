// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What every Endpoint::post() looks at before it takes a request. Any thread; allocates nothing
// unless it refuses.

#include <cstdint>
#include <span>

#include "transport/api/types.h"
#include "transport/base/status.h"

namespace penstock::parts {

// kInvalidArgument, without the peer, for the first request that `kind` cannot carry.
Status check(std::span<const WorkRequest> work, ProviderKind kind, std::uint32_t max_message_bytes);

Event done_event(Opcode opcode);

}  // namespace penstock::parts

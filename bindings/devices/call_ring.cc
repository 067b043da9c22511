// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/call_ring.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {

Result<GroupTicket> CallRing::add(const GroupCall& call) {
  PENSTOCK_RETURN_IF_ERROR(validate(call, devices_));
  if (next_ - first_ == kMaxGroupCalls)
    return Status(Code::kExhausted,
                  fmt::format("{}: {} calls begun and not polled", describe(call), kMaxGroupCalls))
        .with_hint("poll the first of them until it is done");
  Slot& slot = at(next_);
  std::copy(call.buffers.begin(), call.buffers.end(), slot.buffers.begin());
  slot.call = call;
  slot.call.buffers = slot.buffers;
  slot.done = 0;
  slot.open = true;
  slot.status.reset();
  if (is_nothing(call)) slot.status = Status();
  return next_++;
}

void CallRing::finish_all(const Status& status) {
  for (GroupTicket ticket = first_; ticket < next_; ++ticket)
    if (at(ticket).open && !at(ticket).status) finish(ticket, status);
}

std::optional<Status> CallRing::poll(GroupTicket ticket) {
  if (ticket < first_ || ticket >= next_ || !at(ticket).open)
    return Status(Code::kNotFound, "a ticket that was never given or has been polled");
  if (!at(ticket).status) return std::nullopt;
  at(ticket).open = false;
  while (first_ < next_ && !at(first_).open) ++first_;
  return std::move(at(ticket).status);
}

}  // namespace penstock

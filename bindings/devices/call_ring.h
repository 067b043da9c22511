// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The calls of a DeviceGroup that have begun and are not polled yet, in their order. All memory is
// taken at the start.

#include <array>
#include <vector>

#include "bindings/devices/device_group.h"

namespace penstock {

class CallRing {
 public:
  struct Slot {
    GroupCall call;
    std::vector<std::byte*> buffers;  // what call.buffers points at
    std::uint64_t done = 0;           // of the call, as its group counts
    bool open = false;                // begun and not polled
    std::optional<Status> status;     // once finished
  };

  explicit CallRing(std::uint32_t devices) : slots_(kMaxGroupCalls), devices_(devices) {
    for (Slot& slot : slots_) slot.buffers.resize(devices);
  }

  // Validates and notes the call; one that is nothing is finished at once.
  Result<GroupTicket> add(const GroupCall& call);

  // The calls from first() to end() are those not polled, and perhaps some that are.
  GroupTicket first() const { return first_; }
  GroupTicket end() const { return next_; }
  Slot& at(GroupTicket ticket) { return slots_[ticket % kMaxGroupCalls]; }

  void finish(GroupTicket ticket, Status status) { at(ticket).status = std::move(status); }
  void finish_all(const Status& status);
  std::optional<Status> poll(GroupTicket ticket);

 private:
  std::vector<Slot> slots_;
  const std::uint32_t devices_;
  GroupTicket first_ = 0;  // everything before is polled
  GroupTicket next_ = 0;
};

}  // namespace penstock

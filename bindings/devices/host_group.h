// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// "Devices" that are plain memory of this process. Sums in float32 in the devices' order, 0 first,
// whatever the root, and rounds once to nearest even: the bits of KernelTable::decode, +, and
// encode, equal on every instruction set.

#include <array>
#include <memory>

#include "bindings/devices/call_ring.h"
#include "kernels/table.h"

namespace penstock {

class HostGroup final : public DeviceGroup {
 public:
  // 1 to kMaxGroupDevices devices, or kInvalidArgument.
  static Result<std::unique_ptr<HostGroup>> create(std::uint32_t devices,
                                                   const KernelTable& kernels = best_kernels());

  std::uint32_t size() const override { return devices_; }
  Result<GroupTicket> begin(const GroupCall& call) override { return ring_.add(call); }
  std::size_t progress() override;  // one step of the oldest call
  std::optional<Status> poll(GroupTicket ticket) override { return ring_.poll(ticket); }

 private:
  HostGroup(std::uint32_t devices, const KernelTable& kernels)
      : devices_(devices), kernels_(kernels), ring_(devices) {}
  void step(const GroupCall& call, std::uint64_t begin, std::uint64_t count);
  void sum(const GroupCall& call, std::uint64_t begin, std::uint64_t count);

  static constexpr std::uint64_t kBlock = 2048;  // floats: two blocks stay in the L1 cache
  const std::uint32_t devices_;
  const KernelTable& kernels_;
  CallRing ring_;
  GroupTicket working_ = 0;  // everything before is finished
  std::array<float, kBlock> sum_, term_;
};

}  // namespace penstock

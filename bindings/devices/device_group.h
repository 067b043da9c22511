// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// DeviceGroup: the local devices of one worker, which sum what each of them computed before it goes
// on the wire, and receive what came back. Start here.
//
//   auto ticket = group.begin({.kind = GroupCallKind::kReduce, .buffers = gradients,
//                              .leader = sum, .count = n, .dtype = DType::kBfloat16});
//   while (!(done = group.poll(*ticket))) group.progress();
//
// Nothing here blocks: begin() notes the call, progress() moves all of them on, in the order in
// which they began, and poll() says when one is done. Until then its buffers are lent.
//
// HostGroup sums in the devices' order, with the same bits everywhere. NcclGroup sums in an order
// of NCCL's own, which depends on the version, the topology and the size: not bit-reproducible.
//
// Thread: one at a time.

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/dtype.h"
#include "transport/base/status.h"

namespace penstock {

inline constexpr std::uint32_t kMaxGroupDevices = 64;
inline constexpr std::uint64_t kMaxGroupElements = std::uint64_t{1} << 40;  // of one call
// Calls begun and not yet polled.
inline constexpr std::size_t kMaxGroupCalls = 256;

using GroupTicket = std::uint64_t;

enum class GroupCallKind : std::uint8_t {
  kReduce,     // leader = Σ buffers, each element rounded once to dtype
  kBroadcast,  // each of buffers = leader
};

struct GroupCall {
  GroupCallKind kind = GroupCallKind::kReduce;
  std::span<std::byte* const> buffers;  // [device]: memory of that device, `count` elements each
  std::byte* leader = nullptr;          // what device `root` reaches; may be buffers[root]
  std::uint64_t count = 0;
  DType dtype = DType::kFloat32;
  std::uint32_t root = 0;
};

class DeviceGroup {
 public:
  virtual ~DeviceGroup() = default;

  virtual std::uint32_t size() const = 0;  // devices
  // kInvalidArgument naming what cannot be; kExhausted past kMaxGroupCalls: poll some first. After
  // an error of the devices every call answers that error.
  virtual Result<GroupTicket> begin(const GroupCall& call) = 0;
  virtual std::size_t progress() = 0;  // how much was done
  // Set once when the call is done; then the ticket is gone (kNotFound).
  virtual std::optional<Status> poll(GroupTicket ticket) = 0;
};

// kInvalidArgument naming what is wrong with the call for so many devices.
Status validate(const GroupCall& call, std::uint32_t devices);

// One device, and its buffer is the leader's: nothing is to be done.
bool is_nothing(const GroupCall& call);

// "reduce of 1000 fp32 over 4 devices"
std::string describe(const GroupCall& call);

}  // namespace penstock

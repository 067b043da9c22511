// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/host_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace penstock {
namespace {

// Of one progress(): some tens of microseconds, so that whoever polls is never kept long.
constexpr std::uint64_t kStepElements = 1 << 16;

}  // namespace

Result<std::unique_ptr<HostGroup>> HostGroup::create(std::uint32_t devices,
                                                     const KernelTable& kernels) {
  if (devices == 0 || devices > kMaxGroupDevices)
    return Status(Code::kInvalidArgument,
                  fmt::format("a group of {} devices: 1 to {} can be", devices, kMaxGroupDevices));
  return std::unique_ptr<HostGroup>(new HostGroup(devices, kernels));
}

std::size_t HostGroup::progress() {
  working_ = std::max(working_, ring_.first());
  while (working_ < ring_.end() && ring_.at(working_).status) ++working_;
  if (working_ == ring_.end()) return 0;
  CallRing::Slot& slot = ring_.at(working_);
  const std::uint64_t count = std::min(kStepElements, slot.call.count - slot.done);
  step(slot.call, slot.done, count);
  slot.done += count;
  if (slot.done == slot.call.count) ring_.finish(working_, {});
  return 1;
}

void HostGroup::step(const GroupCall& call, std::uint64_t begin, std::uint64_t count) {
  const std::size_t element = dtype_bytes(call.dtype);
  const std::uint64_t at = begin * element;
  const std::uint64_t bytes = count * element;
  if (call.kind == GroupCallKind::kBroadcast) {
    for (std::byte* const buffer : call.buffers)
      if (buffer != call.leader) std::memcpy(buffer + at, call.leader + at, bytes);
  } else if (call.buffers.size() == 1) {
    std::memcpy(call.leader + at, call.buffers[0] + at, bytes);
  } else {
    for (std::uint64_t i = 0; i < count; i += kBlock)
      sum(call, begin + i, std::min(kBlock, count - i));
  }
}

// The leader may be one of the buffers: it is written after all of the block is read.
void HostGroup::sum(const GroupCall& call, std::uint64_t begin, std::uint64_t count) {
  const std::uint64_t at = begin * dtype_bytes(call.dtype);
  kernels_.decode(call.buffers[0] + at, call.dtype, sum_.data(), count);
  for (std::uint32_t d = 1; d < devices_; ++d) {
    kernels_.decode(call.buffers[d] + at, call.dtype, term_.data(), count);
    for (std::uint64_t i = 0; i < count; ++i) sum_[i] += term_[i];
  }
  kernels_.encode(sum_.data(), call.leader + at, call.dtype, count);
}

}  // namespace penstock

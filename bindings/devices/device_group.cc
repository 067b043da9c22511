// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/device_group.h"

#include <fmt/format.h>

#include <string>

namespace penstock {
namespace {

bool overlap(const std::byte* a, const std::byte* b, std::uint64_t bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(a);
  const auto second = reinterpret_cast<std::uintptr_t>(b);
  return first < second ? second - first < bytes : first - second < bytes;
}

bool aligned(const std::byte* buffer, DType dtype) {
  return reinterpret_cast<std::uintptr_t>(buffer) % dtype_bytes(dtype) == 0;
}

}  // namespace

std::string describe(const GroupCall& call) {
  return fmt::format("{} of {} {} over {} devices",
                     call.kind == GroupCallKind::kReduce ? "reduce" : "broadcast", call.count,
                     dtype_name(call.dtype), call.buffers.size());
}

bool is_nothing(const GroupCall& call) {
  return call.buffers.size() == 1 && call.buffers[0] == call.leader;
}

Status validate(const GroupCall& call, std::uint32_t devices) {
  const auto wrong = [&](const std::string& what) {
    return Status(Code::kInvalidArgument, describe(call) + ": " + what);
  };
  if (call.buffers.size() != devices) return wrong(fmt::format("the group has {}", devices));
  if (!is_dtype(static_cast<std::uint8_t>(call.dtype))) return wrong("an unknown dtype");
  if (call.root >= devices) return wrong(fmt::format("root {}; devices count from 0", call.root));
  if (call.count == 0 || call.count > kMaxGroupElements)
    return wrong(fmt::format("1 to {} elements can be", kMaxGroupElements));
  const std::uint64_t bytes = call.count * dtype_bytes(call.dtype);
  if (call.leader == nullptr || !aligned(call.leader, call.dtype))
    return wrong("the leader's buffer is null or not aligned to its elements");
  for (std::uint32_t d = 0; d < devices; ++d) {
    const std::byte* const buffer = call.buffers[d];
    if (buffer == nullptr || !aligned(buffer, call.dtype))
      return wrong(fmt::format("the buffer of device {} is null or not aligned", d));
    if (overlap(buffer, call.leader, bytes) && !(d == call.root && buffer == call.leader))
      return wrong(fmt::format("the buffer of device {} overlaps the leader's", d))
          .with_hint("only the root's may be the leader's, and then all of it");
    for (std::uint32_t other = 0; other < d; ++other)
      if (overlap(buffer, call.buffers[other], bytes))
        return wrong(fmt::format("the buffers of devices {} and {} overlap", other, d));
  }
  return {};
}

}  // namespace penstock

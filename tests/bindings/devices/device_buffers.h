// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Elements of one dtype for each device, and what is to come of them, computed one by one.

#include <cstring>
#include <random>
#include <vector>

#include "bindings/devices/device_group.h"
#include "kernels/math/half.h"

namespace penstock::test {

inline float load(const std::byte* at, DType dtype) {
  if (dtype == DType::kFloat32) {
    float value = 0;
    return std::memcpy(&value, at, sizeof value), canonical(value);
  }
  std::uint16_t code = 0;
  std::memcpy(&code, at, sizeof code);
  return dtype == DType::kFloat16 ? fp16_to_float(code) : bf16_to_float(code);
}

inline void store(std::byte* at, DType dtype, float value) {
  if (dtype == DType::kFloat32) {
    value = canonical(value);
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const std::uint16_t code = dtype == DType::kFloat16 ? float_to_fp16(value) : float_to_bf16(value);
  std::memcpy(at, &code, sizeof code);
}

using Bytes = std::vector<std::byte>;

// Any bits at all: subnormals, infinities and NaN, too.
inline std::vector<Bytes> random_buffers(std::uint32_t devices, std::uint64_t count, DType dtype,
                                         std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Bytes> buffers(devices, Bytes(count * dtype_bytes(dtype)));
  for (Bytes& each : buffers)
    for (std::byte& byte : each) byte = static_cast<std::byte>(random());
  return buffers;
}

// Element by element: device 0 first, in float32, rounded once.
inline Bytes sum_of(const std::vector<Bytes>& buffers, DType dtype) {
  Bytes sum(buffers[0].size());
  for (std::size_t at = 0; at < sum.size(); at += dtype_bytes(dtype)) {
    float total = load(buffers[0].data() + at, dtype);
    for (std::size_t d = 1; d < buffers.size(); ++d) total += load(buffers[d].data() + at, dtype);
    store(sum.data() + at, dtype, total);
  }
  return sum;
}

inline std::vector<std::byte*> pointers(std::vector<Bytes>& buffers) {
  std::vector<std::byte*> all;
  for (Bytes& each : buffers) all.push_back(each.data());
  return all;
}

// Moves the group on until the call is done; kTimeout after a great many turns without it.
inline Status finish(DeviceGroup& group, GroupTicket ticket) {
  for (int turn = 0; turn < 100'000; ++turn) {
    if (std::optional<Status> done = group.poll(ticket)) return *done;
    group.progress();
  }
  return {Code::kTimeout, "the call was never done"};
}

inline Status run(DeviceGroup& group, const GroupCall& call) {
  const Result<GroupTicket> ticket = group.begin(call);
  return ticket.ok() ? finish(group, *ticket) : ticket.status();
}

}  // namespace penstock::test

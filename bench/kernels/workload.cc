// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/kernels/workload.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "bench/kernels/cpu_adam_shape.h"
#include "kernels/initializer.h"
#include "transport/base/check.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kSocketBytes = 256U << 10;

// Xor of [bytes], in eight sums so that loads, not additions, set the pace.
std::uint64_t read_array(const void* array, std::size_t bytes) {
  const std::span words(static_cast<const std::uint64_t*>(array), bytes / sizeof(std::uint64_t));
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + 8 <= words.size(); i += 8)
    for (std::size_t j = 0; j < 8; ++j) sums[j] ^= words[i + j];
  for (std::size_t j = 1; j < 8; ++j) sums[0] ^= sums[j];
  return sums[0];
}

}  // namespace

std::size_t read_bytes(const Shape& shape) {
  return shape.workers * dtype_bytes(shape.dtype) + sizeof(float) + state_bytes(shape.optimizer);
}

std::size_t wire_bytes(const Shape& shape) {
  return shape.dtype == DType::kFloat32 ? 0 : dtype_bytes(shape.dtype);
}

Workload::Workload(const Shape& shape) : shape_(shape), coefficients_(fold(shape.optimizer, 1)) {}

Result<Workload> Workload::make(const Shape& shape) {
  Workload workload(shape);
  PENSTOCK_RETURN_IF_ERROR(workload.allocate());
  workload.fill();
  return workload;
}

Status Workload::allocate() {
  const auto add = [&](std::vector<HostMemory>& arrays, std::size_t element_bytes) -> Status {
    PENSTOCK_ASSIGN_OR_RETURN(arrays.emplace_back(),
                              HostMemory::allocate(shape_.elements * element_bytes));
    return {};
  };
  for (std::uint32_t w = 0; w < shape_.workers; ++w)
    PENSTOCK_RETURN_IF_ERROR(add(gradients_, dtype_bytes(shape_.dtype)));
  for (std::uint32_t s = 0; s < state_planes(shape_.optimizer); ++s)
    PENSTOCK_RETURN_IF_ERROR(add(state_, state_bytes(shape_.optimizer, s)));
  PENSTOCK_ASSIGN_OR_RETURN(parameters_, HostMemory::allocate(shape_.elements * sizeof(float)));
  PENSTOCK_ASSIGN_OR_RETURN(wire_, HostMemory::allocate(shape_.elements * wire_bytes(shape_)));
  PENSTOCK_ASSIGN_OR_RETURN(sum_, HostMemory::allocate(shape_.elements * sizeof(float)));
  PENSTOCK_ASSIGN_OR_RETURN(socket_, HostMemory::allocate(kSocketBytes));
  return {};
}

// Touches every page, so that no measurement has to.
void Workload::fill() {
  const InitializerSpec values{InitializerSpec::kUniform, -0.1, 0.1, 1};
  const std::span<float> scratch(sum_.as<float>(), shape_.elements);
  for (std::uint32_t w = 0; w < shape_.workers; ++w) {
    initialize(values, w, 0, scratch);
    best_kernels().encode(scratch.data(), gradients_[w].as<void>(), shape_.dtype, shape_.elements);
  }
  initialize(values, shape_.workers, 0, {parameters_.as<float>(), shape_.elements});
  for (std::uint32_t s = 0; s < state_.size(); ++s)
    initialize_state(shape_.optimizer, s, parameters_.as<float>(), shape_.elements,
                     state_[s].as<std::byte>());
  std::memset(wire_.bytes().data(), 0, wire_.bytes().size());
  std::memset(socket_.bytes().data(), 0, socket_.bytes().size());
}

UpdateArgs Workload::arguments(Range range) {
  UpdateArgs args;
  args.parameters = parameters_.as<float>() + range.first;
  for (std::uint32_t s = 0; s < state_.size(); ++s)
    args.state[s] = state_[s].as<std::byte>() + range.first * state_bytes(shape_.optimizer, s);
  args.count = range.count;
  args.first_element = range.first;
  args.scale = 1.0F / static_cast<float>(shape_.workers);
  return args;
}

const void* Workload::gradient(std::uint32_t worker, Range range) const {
  return gradients_[worker].as<std::byte>() + range.first * dtype_bytes(shape_.dtype);
}

std::byte* Workload::wire(Range range) const {
  const std::size_t bytes = wire_bytes(shape_);
  return bytes == 0 ? nullptr : wire_.as<std::byte>() + range.first * bytes;
}

void Workload::fused(const KernelTable& kernels, Range range, bool stream_wire) {
  const void* gradients[kMaxWorkers];
  for (std::uint32_t w = 0; w < shape_.workers; ++w) gradients[w] = gradient(w, range);
  UpdateArgs args = arguments(range);
  args.gradients = gradients;
  args.workers = shape_.workers;
  args.gradient_dtype = shape_.dtype;
  args.wire = wire(range);
  args.wire_dtype = shape_.dtype;
  args.stream_wire = stream_wire;
  kernels.update(coefficients_, args);
}

void Workload::separate(const KernelTable& kernels, Range range) {
  float* const sum = sum_.as<float>() + range.first;
  kernels.decode(gradient(0, range), shape_.dtype, sum, range.count);
  Coefficients plain_addition;
  plain_addition.step_gain = 1;
  for (std::uint32_t w = 1; w < shape_.workers; ++w) {
    const void* const next = gradient(w, range);
    UpdateArgs addition;
    addition.gradients = &next;
    addition.workers = 1;
    addition.gradient_dtype = shape_.dtype;
    addition.parameters = sum;
    addition.count = range.count;
    kernels.update(plain_addition, addition);
  }
  const void* const summed = sum;
  UpdateArgs args = arguments(range);
  args.gradients = &summed;
  args.workers = 1;
  kernels.update(coefficients_, args);
  if (std::byte* const cast = wire(range))
    kernels.encode(args.parameters, cast, shape_.dtype, range.count);
}

bool Workload::has_cpu_adam() const {
  return coefficients_.rule == UpdateRule::kAdamW && shape_.workers == 1 &&
         shape_.dtype == DType::kFloat32 && coefficients_.state_dtype == StateDType::kFloat32;
}

void Workload::cpu_adam(Range range) {
  CHECK(has_cpu_adam());
  const UpdateArgs args = arguments(range);
  cpu_adam_shape(coefficients_, {static_cast<const float*>(gradient(0, range)), args.parameters,
                                 static_cast<float*>(args.state[0]),
                                 static_cast<float*>(args.state[1]), range.count});
}

std::vector<Workload::Stream> Workload::streams(Range range) const {
  std::vector<Stream> streams;
  const auto add = [&](const HostMemory& memory, std::size_t element_bytes) {
    streams.push_back({memory.as<std::byte>() + range.first * element_bytes, element_bytes});
  };
  add(parameters_, sizeof(float));
  for (std::uint32_t s = 0; s < state_.size(); ++s)
    add(state_[s], state_bytes(shape_.optimizer, s));
  for (const HostMemory& gradient : gradients_) add(gradient, dtype_bytes(shape_.dtype));
  return streams;
}

std::uint64_t Workload::read_in_turn(Range range) const {
  std::uint64_t sum = 0;
  for (const Stream& stream : streams(range))
    sum ^= read_array(stream.at, range.count * stream.element_bytes);
  return sum;
}

std::uint64_t Workload::read_side_by_side(Range range) const {
  constexpr std::size_t kBlock = 32;
  constexpr std::size_t kAheadBlocks = 8;
  std::vector<Stream> all = streams(range);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i + kBlock <= range.count; i += kBlock) {
    for (Stream& stream : all) {
      const std::size_t bytes = kBlock * stream.element_bytes;
      for (std::size_t line = 0; line < bytes; line += kLine)
        __builtin_prefetch(stream.at + kAheadBlocks * bytes + line, 0, 2);
      sum ^= read_array(stream.at, bytes);
      stream.at += bytes;
    }
  }
  return sum;
}

void Workload::receive(Range range) {
  const std::size_t bytes = range.count * dtype_bytes(shape_.dtype);
  CHECK(bytes <= kSocketBytes);
  for (std::uint32_t w = 0; w < shape_.workers; ++w)
    std::memcpy(gradients_[w].as<std::byte>() + range.first * dtype_bytes(shape_.dtype),
                socket_.as<std::byte>(), bytes);
}

void Workload::send(Range range) {
  const std::size_t bytes = range.count * wire_bytes(shape_);
  CHECK(bytes <= kSocketBytes);
  std::memcpy(socket_.as<std::byte>(), wire(range), bytes);
}

}  // namespace penstock::bench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/kernels_workload.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>

#include "kernels/initializer.h"
#include "transport/base/check.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kHugePage = 2U << 20;
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
  return shape.workers * dtype_bytes(shape.gradient_dtype) + 4 +
         4 * std::size_t{state_planes(default_optimizer(shape.kind))};
}

void Memory::Free::operator()(std::byte* bytes) const { std::free(bytes); }

Memory::Memory(std::size_t bytes)
    : size_((bytes + kHugePage - 1) / kHugePage * kHugePage),
      bytes_(static_cast<std::byte*>(std::aligned_alloc(kHugePage, size_))) {
  CHECK(bytes_ != nullptr, "{} bytes of memory", size_);
  ::madvise(bytes_.get(), size_, MADV_HUGEPAGE);  // a wish: small pages do too
  std::fill_n(bytes_.get(), size_, std::byte{0});
}

Workload::Workload(const Shape& shape)
    : shape_(shape),
      parameters_(shape.elements * sizeof(float)),
      wire_(shape.elements * dtype_bytes(shape.wire_dtype)),
      sum_(shape.elements * sizeof(float)),
      socket_(kSocketBytes),
      coefficients_(fold(default_optimizer(shape.kind), 1)) {
  const InitializerSpec values{InitializerSpec::kUniform, -0.1, 0.1, 1};
  const std::span<float> scratch(sum_.as<float>(), shape.elements);
  for (std::uint32_t w = 0; w < shape.workers; ++w) {
    initialize(values, w, 0, scratch);
    gradients_.emplace_back(shape.elements * dtype_bytes(shape.gradient_dtype));
    best_kernels().encode(scratch.data(), gradients_.back().as<void>(), shape.gradient_dtype,
                          shape.elements);
  }
  initialize(values, shape.workers, 0, {parameters_.as<float>(), shape.elements});
  for (std::uint32_t s = 0; s < state_planes(default_optimizer(shape.kind)); ++s)
    state_.emplace_back(shape.elements * sizeof(float));
}

UpdateArgs Workload::arguments(Range range) {
  UpdateArgs args;
  args.parameters = parameters_.as<float>() + range.first;
  for (std::size_t s = 0; s < state_.size(); ++s)
    args.state[s] = state_[s].as<float>() + range.first;
  args.count = range.count;
  args.scale = 1.0F / static_cast<float>(shape_.workers);
  return args;
}

const void* Workload::gradient(std::uint32_t worker, Range range) const {
  return gradients_[worker].as<std::byte>() + range.first * dtype_bytes(shape_.gradient_dtype);
}

std::byte* Workload::wire(Range range) const {
  return wire_.as<std::byte>() + range.first * dtype_bytes(shape_.wire_dtype);
}

void Workload::fused(const KernelTable& kernels, Range range, bool stream_wire) {
  const void* gradients[kMaxWorkers];
  for (std::uint32_t w = 0; w < shape_.workers; ++w) gradients[w] = gradient(w, range);
  UpdateArgs args = arguments(range);
  args.gradients = gradients;
  args.workers = shape_.workers;
  args.gradient_dtype = shape_.gradient_dtype;
  args.wire = wire(range);
  args.wire_dtype = shape_.wire_dtype;
  args.stream_wire = stream_wire;
  kernels.update(coefficients_, args);
}

void Workload::separate(const KernelTable& kernels, Range range) {
  float* const sum = sum_.as<float>() + range.first;
  kernels.decode(gradient(0, range), shape_.gradient_dtype, sum, range.count);
  Coefficients plain_addition;
  plain_addition.step_gain = 1;
  for (std::uint32_t w = 1; w < shape_.workers; ++w) {
    const void* const next = gradient(w, range);
    UpdateArgs addition;
    addition.gradients = &next;
    addition.workers = 1;
    addition.gradient_dtype = shape_.gradient_dtype;
    addition.parameters = sum;
    addition.count = range.count;
    kernels.update(plain_addition, addition);
  }
  const void* const summed = sum;
  UpdateArgs args = arguments(range);
  args.gradients = &summed;
  args.workers = 1;
  kernels.update(coefficients_, args);
  kernels.encode(args.parameters, wire(range), shape_.wire_dtype, range.count);
}

std::vector<Workload::Stream> Workload::streams(Range range) const {
  std::vector<Stream> streams;
  const auto add = [&](const Memory& memory, std::size_t element_bytes) {
    streams.push_back({memory.as<std::byte>() + range.first * element_bytes, element_bytes});
  };
  add(parameters_, sizeof(float));
  for (const Memory& state : state_) add(state, sizeof(float));
  for (const Memory& gradient : gradients_) add(gradient, dtype_bytes(shape_.gradient_dtype));
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
  const std::size_t bytes = range.count * dtype_bytes(shape_.gradient_dtype);
  CHECK(bytes <= kSocketBytes);
  for (const Memory& gradient : gradients_)
    std::memcpy(gradient.as<std::byte>() + range.first * dtype_bytes(shape_.gradient_dtype),
                socket_.as<std::byte>(), bytes);
}

void Workload::send(Range range) {
  const std::size_t bytes = range.count * dtype_bytes(shape_.wire_dtype);
  CHECK(bytes <= kSocketBytes);
  std::memcpy(socket_.as<std::byte>(), wire(range), bytes);
}

}  // namespace penstock::bench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/kernels_workload.h"

#include <sys/mman.h>

#include <cstdlib>
#include <span>

#include "kernels/initializer.h"
#include "transport/base/check.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kHugePage = 2U << 20;
constexpr std::size_t kLine = 64;

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
  return shape.elements * (shape.workers * dtype_bytes(shape.gradient_dtype) + 4 +
                           4 * std::size_t{state_planes(shape.kind)});
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
      coefficients_(fold(default_optimizer(shape.kind), 1)) {
  const InitializerSpec values{InitializerSpec::kUniform, -0.1, 0.1, 1};
  const std::span<float> scratch(sum_.as<float>(), shape.elements);
  for (std::uint32_t w = 0; w < shape.workers; ++w) {
    initialize(values, w, 0, scratch);
    gradients_.emplace_back(shape.elements * dtype_bytes(shape.gradient_dtype));
    best_kernels().encode(scratch.data(), gradients_.back().as<void>(), shape.gradient_dtype,
                          shape.elements);
    gradient_pointers_.push_back(gradients_.back().as<void>());
  }
  initialize(values, shape.workers, 0, {parameters_.as<float>(), shape.elements});
  for (std::uint32_t s = 0; s < state_planes(shape.kind); ++s)
    state_.emplace_back(shape.elements * sizeof(float));
}

void Workload::fused(const KernelTable& kernels, bool stream_wire) {
  UpdateArgs args;
  args.gradients = gradient_pointers_.data();
  args.workers = shape_.workers;
  args.gradient_dtype = shape_.gradient_dtype;
  args.parameters = parameters_.as<float>();
  for (std::size_t s = 0; s < state_.size(); ++s) args.state[s] = state_[s].as<float>();
  args.wire = wire_.as<void>();
  args.wire_dtype = shape_.wire_dtype;
  args.count = shape_.elements;
  args.scale = 1.0F / static_cast<float>(shape_.workers);
  args.stream_wire = stream_wire;
  kernels.update(shape_.kind, coefficients_, args);
}

void Workload::separate(const KernelTable& kernels) {
  kernels.decode(gradient_pointers_[0], shape_.gradient_dtype, sum_.as<float>(), shape_.elements);
  Coefficients add;
  add.step_gain = 1;
  UpdateArgs args;
  args.workers = 1;
  args.gradient_dtype = shape_.gradient_dtype;
  args.parameters = sum_.as<float>();
  args.count = shape_.elements;
  for (std::uint32_t w = 1; w < shape_.workers; ++w) {
    args.gradients = &gradient_pointers_[w];
    kernels.update(OptimizerKind::kSgd, add, args);
  }
  const void* sum = sum_.as<void>();
  args.gradients = &sum;
  args.gradient_dtype = DType::kFloat32;
  args.parameters = parameters_.as<float>();
  for (std::size_t s = 0; s < state_.size(); ++s) args.state[s] = state_[s].as<float>();
  args.scale = 1.0F / static_cast<float>(shape_.workers);
  kernels.update(shape_.kind, coefficients_, args);
  kernels.encode(parameters_.as<float>(), wire_.as<void>(), shape_.wire_dtype, shape_.elements);
}

std::uint64_t Workload::read_in_turn() const {
  std::uint64_t sum = read_array(parameters_.as<void>(), shape_.elements * sizeof(float));
  for (const Memory& state : state_)
    sum ^= read_array(state.as<void>(), shape_.elements * sizeof(float));
  for (const Memory& gradient : gradients_)
    sum ^= read_array(gradient.as<void>(), shape_.elements * dtype_bytes(shape_.gradient_dtype));
  return sum;
}

std::uint64_t Workload::read_side_by_side() const {
  struct Stream {
    const std::byte* at;
    std::size_t step;  // bytes of 32 elements
  };
  constexpr std::size_t kBlock = 32;
  constexpr std::size_t kAheadBlocks = 8;
  std::vector<Stream> streams;
  streams.push_back({parameters_.as<std::byte>(), kBlock * sizeof(float)});
  for (const Memory& state : state_)
    streams.push_back({state.as<std::byte>(), kBlock * sizeof(float)});
  for (const Memory& gradient : gradients_)
    streams.push_back({gradient.as<std::byte>(), kBlock * dtype_bytes(shape_.gradient_dtype)});
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i + kBlock <= shape_.elements; i += kBlock) {
    for (Stream& stream : streams) {
      for (std::size_t line = 0; line < stream.step; line += kLine)
        __builtin_prefetch(stream.at + kAheadBlocks * stream.step + line);
      sum ^= read_array(stream.at, stream.step);
      stream.at += stream.step;
    }
  }
  return sum;
}

}  // namespace penstock::bench

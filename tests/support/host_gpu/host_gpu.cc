// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/host_gpu/host_gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/codec/codec.h"
#include "kernels/cuda/host_pass.h"
#include "kernels/update.h"
#include "transport/base/random.h"

namespace penstock::test {

class HostGpu::Memory final : public ComputeMemory {
 public:
  Memory(HostGpu& gpu, std::span<std::byte> bytes) : gpu_(gpu), bytes_(bytes) {}
  ~Memory() override {
    gpu_.cuda_.free(bytes_);
    gpu_.memory_left_ += bytes_.size();
  }
  std::span<std::byte> bytes() const override { return bytes_; }

 private:
  HostGpu& gpu_;
  const std::span<std::byte> bytes_;
};

class HostGpu::Pin final : public ComputeMemory {
 public:
  Pin(HostGpu& gpu, std::span<std::byte> bytes) : gpu_(gpu), bytes_(bytes) {}
  ~Pin() override {
    const std::lock_guard lock(gpu_.mutex_);
    gpu_.pinned_.erase(bytes_.data());
  }
  std::span<std::byte> bytes() const override { return bytes_; }

 private:
  HostGpu& gpu_;
  const std::span<std::byte> bytes_;
};

class HostGpuStream final : public ComputeStream {
 public:
  HostGpuStream(HostGpu& gpu, std::uint32_t marks, std::uint64_t seed)
      : gpu_(gpu), random_(seed), marks_(marks) {
    queue_.reserve(kMostQueued);
    steps_.reserve(kMostSteps);
    passes_.reserve(kMostSteps);
    gradients_.reserve(kMostSteps * kMaxWorkers);
  }
  ~HostGpuStream() override {
    while (done_ < queue_.size()) carry_out();
  }

  Status copy_in(void* device, const void* host, std::size_t bytes) override {
    CHECK(gpu_.is_pinned(host, bytes), "{} bytes are copied from memory that is not pinned", bytes);
    return queue({.kind = Kind::kCopyIn, .to = device, .from = host, .bytes = bytes});
  }
  Status copy_out(void* host, const void* device, std::size_t bytes) override {
    CHECK(gpu_.is_pinned(host, bytes), "{} bytes are copied to memory that is not pinned", bytes);
    return queue({.kind = Kind::kCopyOut, .to = host, .from = device, .bytes = bytes});
  }
  Status copy(void* device, const void* from_device, std::size_t bytes) override {
    return queue({.kind = Kind::kCopy, .to = device, .from = from_device, .bytes = bytes});
  }
  Status fill(float* device, float value, std::uint64_t count) override {
    return queue({.kind = Kind::kFill, .to = device, .bytes = count, .value = value});
  }
  Status step(UpdateRule rule, cuda::GradientType gradients, const cuda::SliceStep* slices,
              std::uint32_t count, std::uint32_t blocks) override {
    ++gpu_.launches_;
    gpu_.steps_ += count;
    return queue({.kind = Kind::kStep,
                  .from = slices,
                  .rule = rule,
                  .gradients = gradients,
                  .count = count,
                  .blocks = blocks});
  }
  Status pass(cuda::Pass pass, cuda::GradientType gradients, const cuda::SlicePass* slices,
              std::uint32_t count, std::uint32_t blocks) override {
    gpu_.passes_ += count;
    return queue({.kind = Kind::kPass,
                  .from = slices,
                  .pass = pass,
                  .gradients = gradients,
                  .count = count,
                  .blocks = blocks});
  }
  Status mark(std::uint32_t which) override {
    CHECK(!marks_.at(which).queued, "mark {} is on its way already", which);
    marks_[which] = {true, false, random_.below(gpu_.most_polls_ + 1)};
    return queue({.kind = Kind::kMark, .count = which});
  }
  Result<bool> reached(std::uint32_t which) override {
    if (--gpu_.operations_left_ < 0) return failure();
    Mark& mark = marks_.at(which);
    CHECK(mark.queued, "mark {} was not put", which);
    if (gpu_.stalled_) return false;
    if (mark.polls_left > 0) {
      --mark.polls_left;
      if (done_ < queue_.size() && random_.chance(500'000)) carry_out();
      return false;
    }
    while (!mark.passed) carry_out();
    mark.queued = false;
    return true;
  }

 private:
  enum class Kind { kCopyIn, kCopyOut, kCopy, kFill, kStep, kPass, kMark };
  struct Operation {
    Kind kind = Kind::kMark;
    void* to = nullptr;
    const void* from = nullptr;
    std::size_t bytes = 0;
    float value = 0;
    UpdateRule rule{};
    cuda::Pass pass{};
    cuda::GradientType gradients{};
    std::uint32_t count = 0, blocks = 0;
  };
  struct Mark {
    bool queued = false, passed = false;
    std::uint64_t polls_left = 0;
  };
  static constexpr std::size_t kMostQueued = 65'536;
  static constexpr std::size_t kMostSteps = 1024;  // of one launch

  static Status failure() { return {Code::kSystem, "the GPU of the host fails as it was told"}; }

  Status queue(Operation operation) {
    if (--gpu_.operations_left_ < 0) return failure();
    if (done_ == queue_.size()) {
      queue_.clear();
      done_ = 0;
    }
    CHECK(queue_.size() < kMostQueued, "too much is queued");
    queue_.push_back(operation);
    return {};
  }

  void carry_out() {
    const Operation operation = queue_[done_++];
    switch (operation.kind) {
      case Kind::kCopyIn:
        std::memcpy(gpu_.reach(static_cast<std::byte*>(operation.to), operation.bytes),
                    operation.from, operation.bytes);
        return;
      case Kind::kCopyOut:
        std::memcpy(operation.to,
                    gpu_.reach(static_cast<const std::byte*>(operation.from), operation.bytes),
                    operation.bytes);
        return;
      case Kind::kCopy:
        std::memcpy(gpu_.reach(static_cast<std::byte*>(operation.to), operation.bytes),
                    gpu_.reach(static_cast<const std::byte*>(operation.from), operation.bytes),
                    operation.bytes);
        return;
      case Kind::kFill:
        std::fill_n(gpu_.reach(static_cast<float*>(operation.to), operation.bytes), operation.bytes,
                    operation.value);
        return;
      case Kind::kStep:
        return run_step(operation);
      case Kind::kPass:
        return run_pass(operation);
      case Kind::kMark:
        marks_[operation.count].passed = true;
        return;
    }
  }

  // The table as the GPU sees it, with addresses that the CPU can follow. `follow(slice)` does the
  // same to what gradients are not, and returns the bits of the addresses.
  template <class Slice, class Follow>
  void read_table(const Operation& launch, std::vector<Slice>& table, const Follow& follow) {
    const auto* const slices = gpu_.reach(static_cast<const Slice*>(launch.from), launch.count);
    CHECK(launch.count <= kMostSteps, "a launch of {} slices", launch.count);
    table.assign(slices, slices + launch.count);
    gradients_.clear();
    std::uint32_t blocks = 0;
    for (Slice& slice : table) {
      CHECK(slice.first_block == blocks, "first block {} instead of {}", slice.first_block, blocks);
      blocks += cuda::blocks_of(slice.count);
      const std::uintptr_t bits = follow_gradients(launch, slice) | follow(slice);
      CHECK(!slice.aligned || bits % 16 == 0, "a slice that says it is aligned is not");
    }
    CHECK(blocks == launch.blocks, "{} blocks for a table of {}", launch.blocks, blocks);
  }

  std::uintptr_t follow_gradients(const Operation& launch, cuda::SliceGradients& slice) {
    const bool encoded = launch.gradients == cuda::GradientType::kEncoded;
    CHECK(!encoded || slice.codec.kind != CodecKind::kNone, "encoded gradients without a codec");
    const std::size_t bytes = encoded
                                  ? encoded_bytes(slice.codec, slice.count)
                                  : slice.count * dtype_bytes(static_cast<DType>(launch.gradients));
    std::uintptr_t bits = 0;
    const std::size_t first = gradients_.size();
    const auto* const addresses = gpu_.reach(slice.gradients, slice.workers);
    for (std::uint32_t worker = 0; worker < slice.workers; ++worker) {
      bits |= reinterpret_cast<std::uintptr_t>(addresses[worker]);
      gradients_.push_back(gpu_.gradient(addresses[worker], bytes));
    }
    slice.gradients = gradients_.data() + first;
    return bits;
  }

  template <class T>
  std::uintptr_t follow_array(T*& array, std::size_t bytes) {
    const auto bits = reinterpret_cast<std::uintptr_t>(array);
    if (array != nullptr)
      array = reinterpret_cast<T*>(gpu_.reach(reinterpret_cast<std::byte*>(array), bytes));
    return bits;
  }

  void run_step(const Operation& launch) {
    read_table(launch, steps_, [&](cuda::SliceStep& step) {
      CHECK(step.coefficients.rule == launch.rule, "a slice of another rule");
      std::uintptr_t bits = follow_array(step.parameters, step.count * sizeof(float));
      for (std::uint32_t plane = 0; plane < kMaxStatePlanes; ++plane) {
        const Coefficients& c = step.coefficients;
        const auto bytes = plane < state_planes(c.rule) ? state_bytes(c.state_dtype) : 4;
        bits |= follow_array(step.state[plane], step.count * bytes);
      }
      return bits | follow_array(step.wire, step.count * dtype_bytes(step.wire_dtype));
    });
    for (std::uint32_t block = 0; block < launch.blocks; ++block)
      for (std::uint32_t thread = 0; thread < cuda::kThreads; ++thread)
        cuda::step_on_host(steps_.data(), launch.count, launch.gradients, {block, thread});
  }

  void run_pass(const Operation& launch) {
    read_table(launch, passes_, [&](cuda::SlicePass& pass) {
      const std::size_t bytes = pass.count * sizeof(float);
      follow_array(pass.norms, sizeof(NormSums));
      return follow_array(pass.sums, bytes) | follow_array(pass.parameters, bytes) |
             follow_array(pass.m, bytes) | follow_array(pass.v, bytes) |
             follow_array(pass.wire, pass.count * dtype_bytes(pass.wire_dtype));
    });
    cuda::ThreadOrder order;
    std::iota(order.begin(), order.end(), 0U);
    const std::uint32_t blocks = cuda::pass_blocks(launch.pass, launch.count, launch.blocks);
    for (std::uint32_t block = 0; block < blocks; ++block)
      cuda::pass_on_host(launch.pass, launch.gradients, passes_.data(), launch.count, block, order);
  }

  HostGpu& gpu_;
  SeededRandom random_;
  std::vector<Mark> marks_;
  std::vector<Operation> queue_;  // the first `done_` are carried out
  std::size_t done_ = 0;
  std::vector<cuda::SliceStep> steps_;
  std::vector<cuda::SlicePass> passes_;
  std::vector<const void*> gradients_;
};

HostGpu::~HostGpu() { CHECK(pinned_.empty(), "{} ranges are still pinned", pinned_.size()); }

Result<std::unique_ptr<ComputeMemory>> HostGpu::allocate(std::size_t bytes) {
  if (bytes > memory_left_)
    return Status(Code::kExhausted, fmt::format("allocate {} bytes on {}", bytes, name_));
  ++allocations_;
  const std::span<std::byte> made = cuda_.allocate(bytes);
  memory_left_ -= bytes;
  std::memset(cuda_.contents(made).data(), 0xdb, bytes);  // a GPU does not clear its memory
  return std::unique_ptr<ComputeMemory>(std::make_unique<Memory>(*this, made));
}

Result<std::unique_ptr<ComputeMemory>> HostGpu::pin(std::span<std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  ++pins_;
  const auto after = pinned_.lower_bound(bytes.data() + bytes.size());
  if (after != pinned_.begin() && std::prev(after)->first + std::prev(after)->second > bytes.data())
    return Status(Code::kSystem, "some of this memory is pinned already");
  pinned_[bytes.data()] = bytes.size();
  return std::unique_ptr<ComputeMemory>(std::make_unique<Pin>(*this, bytes));
}

Result<std::unique_ptr<ComputeStream>> HostGpu::create_stream(std::uint32_t marks) {
  return std::unique_ptr<ComputeStream>(
      std::make_unique<HostGpuStream>(*this, marks, seed_ + streams_++));
}

bool HostGpu::is_pinned(const void* host, std::size_t bytes) const {
  const std::lock_guard lock(mutex_);
  const auto* const begin = static_cast<const std::byte*>(host);
  const auto after = pinned_.upper_bound(begin);
  if (after == pinned_.begin()) return false;
  const auto& [first, size] = *std::prev(after);
  return begin + bytes <= first + size;
}

}  // namespace penstock::test

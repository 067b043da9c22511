// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A GPU for tests, behind the interface of engine/gpu/compute_device.h: it runs the GPU's own body
// (kernels/cuda/host_pass.h) on the CPU. Strict where a GPU would be slow, wrong or silent:
//   - its memory is a FakeCuda's: the host faults when it touches it;
//   - work is done late: queued, and carried out only as marks are asked for, each after a seeded
//     number of times, so that what is read or written too early gives other bits;
//   - what a card wrote is old until it was flushed, where the FakeCuda's GPU is like that;
//   - copies are to and from pinned memory, tables must say the truth about alignment and blocks.
// Thread: any, as the interface says. It outlives what it made; the FakeCuda outlives it.

#include <atomic>
#include <map>
#include <mutex>

#include "engine/gpu/compute_device.h"
#include "tests/support/fake_cuda/fake_cuda.h"

namespace penstock::test {

class HostGpu final : public ComputeDevice {
 public:
  // A mark is reached after it was asked for 0 … `most_polls` times.
  explicit HostGpu(FakeCuda& cuda, std::uint64_t seed = 1, std::uint32_t most_polls = 4)
      : cuda_(cuda), seed_(seed), most_polls_(most_polls) {}
  ~HostGpu() override;

  const std::string& name() const override { return name_; }
  Result<std::unique_ptr<ComputeMemory>> allocate(std::size_t bytes) override;
  Result<std::unique_ptr<ComputeMemory>> pin(std::span<std::byte> bytes) override;
  Result<std::unique_ptr<ComputeStream>> create_stream(std::uint32_t marks) override;

  void limit_memory(std::uint64_t bytes) { memory_left_ = bytes; }
  void fail_after(std::int64_t operations) { operations_left_ = operations; }
  void stall(bool on) { stalled_ = on; }  // no mark is reached meanwhile

  // --- What happened.
  std::uint64_t launches() const { return launches_; }
  std::uint64_t steps() const { return steps_; }    // slices, of all launches
  std::uint64_t passes() const { return passes_; }  // likewise
  std::uint64_t allocations() const { return allocations_; }
  std::uint64_t pins() const { return pins_; }

 private:
  class Memory;
  class Pin;
  friend class HostGpuStream;

  // Where the host finds device memory; fails the test when it is not all of one allocation.
  template <class T>
  T* reach(T* device, std::size_t count) const {
    const std::span<std::byte> bytes(
        reinterpret_cast<std::byte*>(const_cast<std::remove_const_t<T>*>(device)),
        count * sizeof(T));
    return reinterpret_cast<T*>(cuda_.contents(bytes).data());
  }
  // A gradient as a kernel reads it: in memory that a card may write, as of the last flush.
  const std::byte* gradient(const void* device, std::size_t bytes) const {
    const std::span<std::byte> lies(static_cast<std::byte*>(const_cast<void*>(device)), bytes);
    return cuda_.synchronous(lies) ? cuda_.kernel_view(lies).data() : cuda_.contents(lies).data();
  }
  bool is_pinned(const void* host, std::size_t bytes) const;

  FakeCuda& cuda_;
  const std::uint64_t seed_;
  const std::uint32_t most_polls_;
  const std::string name_ = "GPU of the host";
  mutable std::mutex mutex_;
  std::map<const std::byte*, std::size_t> pinned_;  // by first byte
  std::atomic<std::uint64_t> memory_left_{UINT64_MAX};
  std::atomic<std::int64_t> operations_left_{INT64_MAX};
  std::atomic<bool> stalled_{false};
  std::atomic<std::uint64_t> streams_{0}, launches_{0}, steps_{0}, passes_{0}, allocations_{0},
      pins_{0};
};

}  // namespace penstock::test

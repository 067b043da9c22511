// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the engine needs of a GPU, and all it knows of one: memory, host memory that the device
// copies from and to by itself, and streams of work. cuda_device.h makes one of an NVIDIA GPU;
// tests have one that computes on the CPU. It outlives what it made.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/cuda/pass.h"
#include "transport/base/status.h"

namespace penstock {

// Device memory, or host memory pinned; free or pinned no more when this goes. Any thread.
class ComputeMemory {
 public:
  virtual ~ComputeMemory() = default;
  virtual std::span<std::byte> bytes() const = 0;  // device addresses, or the host's
};

// Work that the device does in the order in which it was queued. Every call returns at once; what
// it names stays as it is until a later mark is reached. Host bytes are pinned ones. Errors:
// kSystem; after one the stream is of no use. Destroying it waits for what was queued.
// Thread: one, its owner's. Allocates nothing.
class ComputeStream {
 public:
  virtual ~ComputeStream() = default;

  virtual Status copy_in(void* device, const void* host, std::size_t bytes) = 0;
  virtual Status copy_out(void* host, const void* device, std::size_t bytes) = 0;
  virtual Status copy(void* device, const void* from_device, std::size_t bytes) = 0;
  virtual Status fill(float* device, float value, std::uint64_t count) = 0;
  // The fused update of `count` slices, all of `rule` and of one gradient type; `slices` lies in
  // device memory and `blocks` is the sum of cuda::blocks_of() over them.
  virtual Status step(UpdateRule rule, cuda::GradientType gradients, const cuda::SliceStep* slices,
                      std::uint32_t count, std::uint32_t blocks) = 0;
  // A pass over `count` slices, likewise.
  virtual Status pass(cuda::Pass pass, cuda::GradientType gradients, const cuda::SlicePass* slices,
                      std::uint32_t count, std::uint32_t blocks) = 0;

  // Puts mark `which` behind all that was queued; it must not be on its way already.
  virtual Status mark(std::uint32_t which) = 0;
  // Whether the device has passed it. Never waits.
  virtual Result<bool> reached(std::uint32_t which) = 0;
};

class ComputeDevice {
 public:
  virtual ~ComputeDevice() = default;

  virtual const std::string& name() const = 0;  // for people

  // Device memory, of any contents, on 256 bytes. kExhausted. Any thread.
  virtual Result<std::unique_ptr<ComputeMemory>> allocate(std::size_t bytes) = 0;
  // Pins the caller's host memory, which must live longer. kExhausted, kUnsupported. Any thread.
  virtual Result<std::unique_ptr<ComputeMemory>> pin(std::span<std::byte> bytes) = 0;
  // With marks 0 … marks−1. Any thread.
  virtual Result<std::unique_ptr<ComputeStream>> create_stream(std::uint32_t marks) = 0;
};

}  // namespace penstock

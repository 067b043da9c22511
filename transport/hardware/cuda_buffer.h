// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A buffer in the memory of one GPU, as the CUDA driver knows it: part of one allocation, which its
// owner keeps and may, wrongly, free under us. Any thread.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "transport/base/unique_fd.h"
#include "transport/hardware/cuda_context.h"

namespace penstock {

// Names a buffer to another process of this host: the allocation it lies in, and where.
struct CudaShare {
  CudaIpcHandle handle{};
  std::string gpu;                     // PCI address
  std::uint64_t allocation_bytes = 0;  // what the handle opens
  std::uint64_t offset = 0;
};

// Whether the address lies in GPU memory of this process; no for any other, and without a driver.
// Starts nothing: a process that has GPU memory has started its driver.
bool is_gpu_memory(const CudaDriver& driver, const void* address);
bool is_gpu_memory(const void* address);  // by the host's driver

class CudaBuffer {
 public:
  // What lies at these device addresses; from now on copies that CUDA calls synchronous are over
  // when they return (SYNC_MEMOPS), as a card that reads the bytes needs. kInvalidArgument unless
  // they are GPU memory, all of one allocation; kUnsupported for managed memory, which moves.
  static Result<CudaBuffer> find(const CudaDriver& driver, std::span<std::byte> bytes);

  const Gpu& gpu() const { return gpu_; }
  std::span<std::byte> bytes() const { return bytes_; }

  // The whole pages around the buffer as a dma-buf, and where in it the buffer begins. Cards that
  // registered it keep it; the descriptor may go.
  struct Dmabuf {
    UniqueFd fd;
    std::uint64_t offset = 0;
  };
  Result<Dmabuf> export_dmabuf() const;

  Result<CudaShare> share() const;

  // As MemoryRegion::flush().
  Status flush() const;

 private:
  CudaBuffer(CudaContext context, Gpu gpu, std::span<std::byte> bytes)
      : context_(std::move(context)), gpu_(std::move(gpu)), bytes_(bytes) {}
  const CudaDriver& driver() const { return context_.driver(); }
  Status locate();
  Status still_there() const;
  std::uint64_t identify() const;

  CudaContext context_;
  Gpu gpu_;
  std::span<std::byte> bytes_;
  std::uint64_t allocation_ = 0, allocation_bytes_ = 0;
  std::uint64_t identity_ = 0;  // of the allocation, never used twice; 0 when the driver has none
};

}  // namespace penstock

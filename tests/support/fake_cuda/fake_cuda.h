// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A CUDA driver inside the process, behind the function table of transport/hardware/cuda_driver.h.
//
//   FakeCuda cuda;
//   const std::span<std::byte> buffer = cuda.allocate(10'000);   // device addresses
//   … register it …
//   cuda.contents(buffer)       // what cards and copies read and write
//   cuda.kernel_reads(buffer)   // what a kernel would see that is launched now
//
// Device memory faults when the host touches its addresses. Calls that act on the current context
// answer 201 (CUDA_ERROR_INVALID_CONTEXT) without one. Where a GPU does not order what cards write,
// kernels read the state of the last flush.
// Thread: any. One at a time in a process: the functions of the table find the one that lives.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "transport/hardware/gpu_host.h"

namespace penstock::test {

struct FakeGpu {
  std::string name = "Fake GPU";
  std::string pci = "0000:17:00.0";
  bool dmabuf = true;
  bool direct = true;
  int ordering = 0;       // CU_GPU_DIRECT_RDMA_WRITES_ORDERING_NONE; OWNER is 100
  int flush_options = 1;  // CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST
};

class FakeCuda {
 public:
  explicit FakeCuda(std::vector<FakeGpu> gpus = {{}});
  ~FakeCuda();
  FakeCuda(const FakeCuda&) = delete;
  FakeCuda& operator=(const FakeCuda&) = delete;

  const CudaDriver& driver() const { return driver_; }
  const FakeGpu& gpu(std::size_t number = 0) const { return gpus_.at(number); }

  // Whole pages, zeroed, of GPU number `gpu`.
  std::span<std::byte> allocate(std::size_t bytes, int gpu = 0);
  void free(std::span<std::byte> buffer);
  // Frees it, and another allocation comes to lie in its place.
  void replace(std::span<std::byte> buffer);
  void make_managed(std::span<std::byte> buffer);

  // Of a buffer here, or one that was opened from another process.
  std::span<std::byte> contents(std::span<std::byte> buffer);
  std::vector<std::byte> kernel_reads(std::span<std::byte> buffer);
  std::span<const std::byte> kernel_view(std::span<std::byte> buffer);  // the same where it lies
  bool synchronous(std::span<std::byte> buffer);                        // SYNC_MEMOPS was set
  int gpu_of(const void* address);                                      // -1: host memory
  static int current_gpu();  // of this thread's context; -1: none

  // The call of this name answers `result` from now on; 0: it works again.
  void fail(const std::string& call, int result);
  // Told of each dma-buf: what it reaches, before its descriptor is handed out.
  std::function<void(int fd, std::span<std::byte> contents)> on_export;

  // --- What happened.
  int flushes() const;
  int retained() const;  // primary contexts held
  int opened() const;    // allocations of other processes that are open now

 private:
  friend struct FakeCudaCalls;
  struct Allocation;
  Allocation* find(const std::byte* address);

  const std::vector<FakeGpu> gpus_;
  CudaDriver driver_;
  mutable std::recursive_mutex mutex_;
  std::map<const std::byte*, std::unique_ptr<Allocation>> allocations_;  // by device address
  std::map<std::string, int> failures_;
  std::uint64_t next_id_ = 1;
  int flushes_ = 0, retained_ = 0;
};

// A host with GPU 0 and cards of these RDMA devices, so far from it.
GpuHost fake_gpu_host(const FakeCuda& cuda, std::span<const std::string> cards,
                      const std::vector<PciDistance>& distances, bool peermem = false);

}  // namespace penstock::test

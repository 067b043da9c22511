// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/hardware/cuda_buffer.h"

#include <fmt/format.h>

namespace penstock {
namespace {

// CU_POINTER_ATTRIBUTE_…
constexpr int kMemoryType = 2;
constexpr int kSyncMemops = 6;
constexpr int kBufferId = 7;
constexpr int kIsManaged = 8;
constexpr int kDeviceOrdinal = 9;
constexpr unsigned kDeviceMemory = 2;  // CU_MEMORYTYPE_DEVICE
constexpr int kDmabufHandle = 1;       // CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD
constexpr int kCurrentContext = 0;     // CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX
constexpr int kToOwner = 100;          // CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER
constexpr std::uint64_t kHostPage = 4096;

CudaAddress address_of(std::span<std::byte> bytes) {
  return reinterpret_cast<CudaAddress>(bytes.data());
}

bool is_device_memory(const CudaDriver& driver, CudaAddress address) {
  unsigned type = 0;
  return driver.cuPointerGetAttribute(&type, kMemoryType, address) == 0 && type == kDeviceMemory;
}

}  // namespace

bool is_gpu_memory(const CudaDriver& driver, const void* address) {
  return is_device_memory(driver, reinterpret_cast<CudaAddress>(address));
}

bool is_gpu_memory(const void* address) {
  const Result<const CudaDriver*> driver = system_cuda();
  return driver.ok() && is_gpu_memory(**driver, address);
}

Result<CudaBuffer> CudaBuffer::find(const CudaDriver& driver, std::span<std::byte> bytes) {
  if (bytes.empty()) return Status(Code::kInvalidArgument, "register: no bytes");
  PENSTOCK_RETURN_IF_ERROR(start_cuda(driver));
  const CudaAddress address = address_of(bytes);
  if (!is_device_memory(driver, address))
    return Status(Code::kInvalidArgument,
                  fmt::format("register: {:#x} is no address of GPU memory", address))
        .with_hint("register what the host allocated or pinned as MemoryKind::kHost");
  unsigned managed = 0;
  if (driver.cuPointerGetAttribute(&managed, kIsManaged, address) == 0 && managed != 0)
    return Status(Code::kUnsupported,
                  fmt::format("register: {:#x} is managed memory, which moves", address))
        .with_hint("allocate it with cuMemAlloc or cudaMalloc");
  int ordinal = 0;
  PENSTOCK_RETURN_IF_ERROR(cuda_status(
      driver.cuPointerGetAttribute(&ordinal, kDeviceOrdinal, address), "cuPointerGetAttribute"));
  PENSTOCK_ASSIGN_OR_RETURN(Gpu gpu, describe_gpu(driver, ordinal));
  int device = 0;
  PENSTOCK_RETURN_IF_ERROR(cuda_status(driver.cuDeviceGet(&device, ordinal), "cuDeviceGet"));
  PENSTOCK_ASSIGN_OR_RETURN(CudaContext context, CudaContext::retain(driver, device));
  CudaBuffer buffer(std::move(context), std::move(gpu), bytes);
  PENSTOCK_RETURN_IF_ERROR(buffer.locate());
  return buffer;
}

Status CudaBuffer::locate() {
  const CudaAddress address = address_of(bytes_);
  CudaAddress base = 0;
  std::size_t size = 0;
  PENSTOCK_RETURN_IF_ERROR(cuda_status(
      context_.with([&] { return driver().cuMemGetAddressRange_v2(&base, &size, address); }),
      "cuMemGetAddressRange"));
  if (address < base || address - base > size || bytes_.size() > size - (address - base))
    return Status(Code::kInvalidArgument,
                  fmt::format("register: {} bytes at offset {} of an allocation of {} bytes on {}",
                              bytes_.size(), address - base, size, gpu_.label()))
        .with_hint("a region lies in one allocation");
  const unsigned on = 1;
  PENSTOCK_RETURN_IF_ERROR(cuda_status(
      context_.with([&] { return driver().cuPointerSetAttribute(&on, kSyncMemops, address); }),
      "cuPointerSetAttribute(SYNC_MEMOPS)"));
  allocation_ = base;
  allocation_bytes_ = size;
  identity_ = identify();
  return {};
}

std::uint64_t CudaBuffer::identify() const {
  unsigned long long id = 0;
  const int result = driver().cuPointerGetAttribute(&id, kBufferId, address_of(bytes_));
  return result == 0 ? id : 0;
}

Status CudaBuffer::still_there() const {
  if (is_device_memory(driver(), address_of(bytes_)) && identify() == identity_) return {};
  return Status(Code::kStale, fmt::format("the GPU memory at {:#x} on {} was freed while it was "
                                          "registered",
                                          address_of(bytes_), gpu_.label()))
      .with_hint("destroy the region before cuMemFree or cudaFree");
}

Result<CudaBuffer::Dmabuf> CudaBuffer::export_dmabuf() const {
  PENSTOCK_RETURN_IF_ERROR(still_there());
  const CudaAddress begin = address_of(bytes_) & ~(kHostPage - 1);
  const CudaAddress end = (address_of(bytes_) + bytes_.size() + kHostPage - 1) & ~(kHostPage - 1);
  int fd = -1;
  PENSTOCK_RETURN_IF_ERROR(cuda_status(context_.with([&] {
    return driver().cuMemGetHandleForAddressRange(&fd, begin, end - begin, kDmabufHandle, 0);
  }),
                                       "cuMemGetHandleForAddressRange"));
  return Dmabuf{UniqueFd(fd), address_of(bytes_) - begin};
}

Result<CudaShare> CudaBuffer::share() const {
  CudaShare share{{}, gpu_.pci, allocation_bytes_, address_of(bytes_) - allocation_};
  const int result =
      context_.with([&] { return driver().cuIpcGetMemHandle(&share.handle, address_of(bytes_)); });
  if (result == 0) return share;
  return Status(Code::kUnsupported,
                fmt::format("lend memory of {} to other processes: cuIpcGetMemHandle answers {}",
                            gpu_.label(), result))
      .with_hint("CUDA lends what cuMemAlloc or cudaMalloc made, not pools or mapped memory");
}

Status CudaBuffer::flush() const {
  PENSTOCK_RETURN_IF_ERROR(still_there());
  if (gpu_.ordered) return {};
  if (!gpu_.flushes)
    return Status(Code::kUnsupported, fmt::format("{} neither orders what cards write into it nor "
                                                  "lets the host flush it",
                                                  gpu_.label()))
        .with_hint("receive in pinned host memory (cuMemHostAlloc) and copy; or a newer driver");
  return cuda_status(
      context_.with([&] { return driver().cuFlushGPUDirectRDMAWrites(kCurrentContext, kToOwner); }),
      "cuFlushGPUDirectRDMAWrites");
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NVIDIA GPUs through the driver's library, libcuda.so.1, as a table of functions filled at run
// time: builds need no CUDA, hosts without a driver run, and tests fill a table of their own. The
// declarations are those of the CUDA driver API, whose names and values never change.

#include <string>
#include <vector>

#include "transport/base/status.h"

namespace penstock {

using CudaAddress = unsigned long long;  // CUdeviceptr
// Names an allocation to another process of this host; passed by value, as CUipcMemHandle is.
struct CudaIpcHandle {
  char bytes[64];
};

}  // namespace penstock

// X(name, arguments, optional). All return a CUresult, 0 for success. Where cuda.h calls a function
// by another name (cuCtxPushCurrent), this is the one its macro means.
#define PENSTOCK_CUDA_FUNCTIONS(X)                                                               \
  X(cuInit, (unsigned flags), false)                                                             \
  X(cuDeviceGetCount, (int* count), false)                                                       \
  X(cuDeviceGet, (int* device, int ordinal), false)                                              \
  X(cuDeviceGetName, (char* name, int bytes, int device), false)                                 \
  X(cuDeviceGetAttribute, (int* value, int attribute, int device), false)                        \
  X(cuDeviceGetPCIBusId, (char* id, int bytes, int device), false)                               \
  X(cuDeviceGetByPCIBusId, (int* device, const char* id), false)                                 \
  X(cuDevicePrimaryCtxRetain, (void** context, int device), false)                               \
  X(cuDevicePrimaryCtxRelease_v2, (int device), false)                                           \
  X(cuCtxPushCurrent_v2, (void* context), false)                                                 \
  X(cuCtxPopCurrent_v2, (void** context), false)                                                 \
  X(cuPointerGetAttribute, (void* value, int attribute, penstock::CudaAddress address), false)   \
  X(cuPointerSetAttribute, (const void* value, int attribute, penstock::CudaAddress address),    \
    false)                                                                                       \
  X(cuMemGetAddressRange_v2,                                                                     \
    (penstock::CudaAddress * base, std::size_t * bytes, penstock::CudaAddress address), false)   \
  X(cuIpcGetMemHandle, (penstock::CudaIpcHandle * handle, penstock::CudaAddress address), false) \
  X(cuIpcOpenMemHandle_v2,                                                                       \
    (penstock::CudaAddress * address, penstock::CudaIpcHandle handle, unsigned flags), false)    \
  X(cuIpcCloseMemHandle, (penstock::CudaAddress address), false)                                 \
  X(cuEventCreate, (void** event, unsigned flags), false)                                        \
  X(cuEventDestroy_v2, (void* event), false)                                                     \
  X(cuEventQuery, (void* event), false)                                                          \
  X(cuEventRecord, (void* event, void* stream), false)                                           \
  X(cuFlushGPUDirectRDMAWrites, (int target, int scope), true)                                   \
  X(cuMemGetHandleForAddressRange,                                                               \
    (void* handle, penstock::CudaAddress address, std::size_t bytes, int type,                   \
     unsigned long long flags),                                                                  \
    true)

namespace penstock {

struct CudaDriver {
#define PENSTOCK_MEMBER(name, arguments, optional) int(*name) arguments = nullptr;
  PENSTOCK_CUDA_FUNCTIONS(PENSTOCK_MEMBER)
#undef PENSTOCK_MEMBER
};

// The host's driver, loaded once and kept. kUnsupported without one. Any thread.
Result<const CudaDriver*> system_cuda();

struct Gpu {
  int ordinal = 0;
  std::string name;
  std::string pci;       // "0000:17:00.0", lower case as in PciDevice
  bool dmabuf = false;   // its memory can be exported as a dma-buf
  bool direct = false;   // other devices can reach its memory at all (GPUDirect RDMA)
  bool ordered = false;  // kernels see what a card wrote before they were launched, unasked
  bool flushes = false;  // the host can ask for that
  // "NVIDIA H100 (0000:17:00.0)"
  std::string label() const { return name + " (" + pci + ")"; }
};

// OK for 0, else kSystem with the call and the driver's number.
Status cuda_status(int result, const char* call);

// Starts the driver. kUnsupported when it has no GPU.
Status start_cuda(const CudaDriver& driver);

// What GPU number `ordinal` is and can do.
Result<Gpu> describe_gpu(const CudaDriver& driver, int ordinal);

// Starts the driver and asks for each GPU. kSystem with the driver's number where it refuses.
Result<std::vector<Gpu>> list_gpus(const CudaDriver& driver);

}  // namespace penstock

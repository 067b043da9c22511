// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NVIDIA GPUs through the driver's library, libcuda.so.1, as a table of functions filled at run
// time: builds need no CUDA, hosts without a driver run, and tests fill a table of their own. The
// declarations are those of the CUDA driver API, whose names and values never change.

#include <string>
#include <vector>

#include "transport/base/status.h"

// X(name, arguments, optional). All return a CUresult, 0 for success.
#define PENSTOCK_CUDA_FUNCTIONS(X)                                          \
  X(cuInit, (unsigned flags), false)                                        \
  X(cuDeviceGetCount, (int* count), false)                                  \
  X(cuDeviceGet, (int* device, int ordinal), false)                         \
  X(cuDeviceGetName, (char* name, int bytes, int device), false)            \
  X(cuDeviceGetAttribute, (int* value, int attribute, int device), false)   \
  X(cuDeviceGetPCIBusId, (char* id, int bytes, int device), false)          \
  X(cuMemGetHandleForAddressRange,                                          \
    (void* handle, unsigned long long address, std::size_t bytes, int type, \
     unsigned long long flags),                                             \
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
  std::string pci;      // "0000:17:00.0", lower case as in PciDevice
  bool dmabuf = false;  // its memory can be exported as a dma-buf
  bool direct = false;  // other devices can reach its memory at all (GPUDirect RDMA)
};

// Starts the driver and asks for each GPU. kSystem with the driver's number where it refuses.
Result<std::vector<Gpu>> list_gpus(const CudaDriver& driver);

}  // namespace penstock

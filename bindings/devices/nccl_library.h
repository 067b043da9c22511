// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// NCCL through its library, libnccl.so.2, as a table of functions filled at run time: builds need
// neither NCCL nor CUDA, hosts without them run, and tests fill a table of their own. The
// declarations are those of nccl.h since 2.14, whose names and values never change.

#include <string>

#include "transport/base/status.h"
#include "transport/hardware/cuda_driver.h"

namespace penstock {

struct NcclUniqueId {  // passed by value, as ncclUniqueId is
  char bytes[128];
};
using NcclComm = void*;  // ncclComm_t

// ncclConfig_t as of 2.14: newer libraries read from `version` how much of it is there.
struct NcclConfig {
  std::size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;  // calls return at once; ncclCommGetAsyncError says when they are done
};

// ncclResult_t
inline constexpr int kNcclSuccess = 0;
inline constexpr int kNcclInvalidArgument = 4;
inline constexpr int kNcclInvalidUsage = 5;
inline constexpr int kNcclRemoteError = 6;
inline constexpr int kNcclInProgress = 7;
// ncclDataType_t, ncclRedOp_t
inline constexpr int kNcclFloat16 = 6;
inline constexpr int kNcclFloat32 = 7;
inline constexpr int kNcclBfloat16 = 9;
inline constexpr int kNcclSum = 0;

}  // namespace penstock

// X(result, name, arguments)
#define PENSTOCK_NCCL_FUNCTIONS(X)                                                          \
  X(int, ncclGetVersion, (int* version))                                                    \
  X(int, ncclGetUniqueId, (penstock::NcclUniqueId * id))                                    \
  X(int, ncclCommInitRankConfig,                                                            \
    (penstock::NcclComm * comm, int ranks, penstock::NcclUniqueId id, int rank,             \
     penstock::NcclConfig* config))                                                         \
  X(int, ncclCommGetAsyncError, (penstock::NcclComm comm, int* result))                     \
  X(int, ncclCommFinalize, (penstock::NcclComm comm))                                       \
  X(int, ncclCommDestroy, (penstock::NcclComm comm))                                        \
  X(int, ncclCommAbort, (penstock::NcclComm comm))                                          \
  X(int, ncclGroupStart, ())                                                                \
  X(int, ncclGroupEnd, ())                                                                  \
  X(int, ncclReduce,                                                                        \
    (const void* send, void* receive, std::size_t count, int type, int operation, int root, \
     penstock::NcclComm comm, void* stream))                                                \
  X(int, ncclBroadcast,                                                                     \
    (const void* send, void* receive, std::size_t count, int type, int root,                \
     penstock::NcclComm comm, void* stream))                                                \
  X(const char*, ncclGetErrorString, (int result))                                          \
  X(const char*, ncclGetLastError, (penstock::NcclComm comm))

namespace penstock {

struct NcclLibrary {
#define PENSTOCK_MEMBER(result, name, arguments) result(*name) arguments = nullptr;
  PENSTOCK_NCCL_FUNCTIONS(PENSTOCK_MEMBER)
#undef PENSTOCK_MEMBER
};

inline constexpr const char* kNcclFile = "libnccl.so.2";
inline constexpr const char* kInstallNccl =
    "install NCCL 2.14 or newer (the package libnccl2 of NVIDIA's repository, or nvidia-nccl-cu12 "
    "or "
    "-cu13 from pip) and let the loader find libnccl.so.2 (ldconfig, LD_LIBRARY_PATH)";

// 2.14: the first with communicators whose calls never block.
inline constexpr int kOldestNccl = 21400;

// The library of this file name. kUnsupported when it is not there or too old. It stays loaded.
Result<NcclLibrary> load_nccl(const char* file);

// The host's libnccl.so.2, loaded once and kept. Any thread.
Result<const NcclLibrary*> system_nccl();

// "2.28.9". kUnsupported for less than kOldestNccl.
Result<std::string> nccl_version(const NcclLibrary& library);

// OK for success and for "in progress", else the call, the library's words and number, and what it
// said last of `comm`.
Status nccl_status(const NcclLibrary& library, int result, const char* call,
                   NcclComm comm = nullptr);

// What collectives between GPUs stand on; both outlive whatever is made of it.
struct NcclHost {
  const NcclLibrary* nccl = nullptr;
  const CudaDriver* cuda = nullptr;
};

// This host's. kUnsupported without NCCL, without a driver or without a GPU.
Result<NcclHost> system_nccl_host();

}  // namespace penstock

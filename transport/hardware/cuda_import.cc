// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/hardware/cuda_import.h"

#include <fmt/format.h>

namespace penstock {
namespace {

constexpr unsigned kLazyPeerAccess = 1;  // CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

}  // namespace

Result<CudaImport> CudaImport::open(const CudaDriver& driver, const CudaShare& share,
                                    std::uint64_t bytes) {
  PENSTOCK_RETURN_IF_ERROR(start_cuda(driver));
  int device = 0;
  if (driver.cuDeviceGetByPCIBusId(&device, share.gpu.c_str()) != 0)
    return Status(
               Code::kUnsupported,
               fmt::format("this process does not see the GPU {}, where the memory is", share.gpu))
        .with_hint("CUDA_VISIBLE_DEVICES, and a container's list of GPUs, must have it");
  PENSTOCK_ASSIGN_OR_RETURN(CudaContext context, CudaContext::retain(driver, device));
  CudaAddress base = 0, start = 0;
  std::size_t size = 0;
  const int opened = context.with(
      [&] { return driver.cuIpcOpenMemHandle_v2(&base, share.handle, kLazyPeerAccess); });
  if (opened != 0)
    return Status(Code::kUnsupported,
                  fmt::format("open memory of the GPU {}: cuIpcOpenMemHandle answers {}", share.gpu,
                              opened))
        .with_hint("CUDA opens memory of other processes that is still allocated");
  CudaImport import(std::move(context), base);
  PENSTOCK_RETURN_IF_ERROR(cuda_status(
      import.context_.with([&] { return driver.cuMemGetAddressRange_v2(&start, &size, base); }),
      "cuMemGetAddressRange"));
  // The handle's memory may be less than its sender says.
  if (share.offset > size || bytes > size - share.offset)
    return Status(Code::kProtocol,
                  fmt::format("the peer lent {} bytes at {} of an allocation of {}", bytes,
                              share.offset, size));
  import.bytes_ = {reinterpret_cast<std::byte*>(base + share.offset), bytes};
  return import;
}

CudaImport::~CudaImport() {
  if (base_ != 0) context_.with([&] { return context_.driver().cuIpcCloseMemHandle(base_); });
}

}  // namespace penstock

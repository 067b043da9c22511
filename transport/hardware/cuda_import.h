// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Memory on a GPU of this host that another process lent, open here while this lives. The lender
// keeps it so long. Any thread.

#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/hardware/cuda_buffer.h"

namespace penstock {

class CudaImport {
 public:
  // The `bytes` that the share names. kUnsupported when this process does not see the GPU or CUDA
  // does not open the handle here; kProtocol when they lie outside what was opened.
  static Result<CudaImport> open(const CudaDriver& driver, const CudaShare& share,
                                 std::uint64_t bytes);
  CudaImport(CudaImport&& other) noexcept
      : context_(std::move(other.context_)),
        base_(std::exchange(other.base_, 0)),
        bytes_(other.bytes_) {}
  CudaImport& operator=(CudaImport&&) = delete;
  ~CudaImport();

  std::span<std::byte> bytes() const { return bytes_; }  // device addresses

 private:
  CudaImport(CudaContext context, CudaAddress base) : context_(std::move(context)), base_(base) {}

  CudaContext context_;
  CudaAddress base_;  // 0 when moved from
  std::span<std::byte> bytes_;
};

}  // namespace penstock

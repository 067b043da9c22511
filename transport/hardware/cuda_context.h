// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The primary context of a GPU, which programs on the CUDA runtime use, kept alive. Most driver
// calls act on the context that is current on their thread; ours have none.

#include <utility>

#include "transport/hardware/cuda_driver.h"

namespace penstock {

class CudaContext {
 public:
  // Of the device that the driver numbers so. The driver outlives it.
  static Result<CudaContext> retain(const CudaDriver& driver, int device);
  CudaContext(CudaContext&& other) noexcept
      : driver_(std::exchange(other.driver_, nullptr)),
        device_(other.device_),
        context_(other.context_) {}
  CudaContext& operator=(CudaContext&&) = delete;
  ~CudaContext() {
    if (driver_ != nullptr) driver_->cuDevicePrimaryCtxRelease_v2(device_);
  }

  const CudaDriver& driver() const { return *driver_; }

  // What `call` answers, made with this context current. Any thread; its own context is back after.
  template <class Call>
  int with(Call&& call) const {
    if (const int refused = driver_->cuCtxPushCurrent_v2(context_); refused != 0) return refused;
    const int answer = call();
    void* same = nullptr;
    driver_->cuCtxPopCurrent_v2(&same);
    return answer;
  }

 private:
  CudaContext(const CudaDriver& driver, int device, void* context)
      : driver_(&driver), device_(device), context_(context) {}

  const CudaDriver* driver_;
  int device_;
  void* context_;
};

}  // namespace penstock

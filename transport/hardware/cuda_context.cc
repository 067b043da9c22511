// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/hardware/cuda_context.h"

namespace penstock {

Result<CudaContext> CudaContext::retain(const CudaDriver& driver, int device) {
  void* context = nullptr;
  PENSTOCK_RETURN_IF_ERROR(
      cuda_status(driver.cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain"));
  return CudaContext(driver, device, context);
}

}  // namespace penstock

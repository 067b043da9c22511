// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dlpack/dlpack.h>

#include "engine/worker/worker.h"

// What the opaque handle of the C ABI holds.
struct penstock_tensor {
  penstock::Tensor tensor;
};

namespace penstock::c {

// The key, buffers, dtypes and shape. kUnsupported or kInvalidArgument naming the key, which of the
// two it is and what is wrong with it: device, dtype, strides, shape.
Result<Tensor> tensor_from(Key key, const DLTensor& gradients, const DLTensor& parameters);

// Memory that can be lent: CPU or CUDA-pinned, row-major. `name` begins errors: "key 7: gradients".
Result<std::span<std::byte>> bytes_from(const std::string& name, const DLTensor& tensor);

Status set_tensor(Tensor& tensor, std::string_view name, std::string_view value);

}  // namespace penstock::c

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/dtype.h"

namespace penstock {

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "fp32";
    case DType::kFloat16:
      return "fp16";
    case DType::kBfloat16:
      return "bf16";
  }
  return "?";
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBfloat16})
    if (name == dtype_name(dtype)) return dtype;
  return std::nullopt;
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What a GPU server can do, spelled out: what is new elsewhere is refused here until it is said.

#include <fmt/format.h>

#include "engine/server/gpu_updater.h"

namespace penstock {
namespace {

bool has_kernels(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd:
    case OptimizerKind::kMomentum:
    case OptimizerKind::kNesterov:
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
    case OptimizerKind::kAdaGrad:
    case OptimizerKind::kDecayedAdaGrad:
    case OptimizerKind::kRmsProp:
    case OptimizerKind::kAdaMax:
    case OptimizerKind::kFtrl:
    case OptimizerKind::kLion:
    case OptimizerKind::kLars:
    case OptimizerKind::kLamb:
    case OptimizerKind::kAssign:
      return true;
    case OptimizerKind::kAdaFactor:
      return false;
  }
  return false;
}

bool has_kernels(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kFloat16:
    case DType::kBfloat16:
      return true;
  }
  return false;
}

Status unsupported(const Declaration& declaration, std::string_view field, std::string_view value) {
  return Status(Code::kUnsupported, fmt::format("{}: servers with GPU memory have no {} {}",
                                                describe(declaration), field, value))
      .with_hint("start the servers with host memory (--server-memory host)");
}

}  // namespace

Status gpu_supports(const Declaration& declaration) {
  const TensorSpec& spec = declaration.spec;
  if (!has_kernels(spec.optimizer.kind))
    return unsupported(declaration, "optimizer", optimizer_name(spec.optimizer.kind));
  for (const DType dtype : {spec.gradient_dtype, spec.parameter_dtype})
    if (!has_kernels(dtype)) return unsupported(declaration, "dtype", dtype_name(dtype));
  return {};
}

}  // namespace penstock

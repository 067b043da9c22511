// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A yardstick: adamw in float32 the way DeepSpeed's CPUAdam runs it. Eight registers of each of the
// four streams are loaded first, then every operation is done on all eight before the next one,
// then all are stored; no prefetch. Numerics as there: rounding differs from the kernels' in the
// last place.

#include <cstddef>

#include "kernels/coefficients.h"

namespace penstock::bench {

struct CpuAdamArgs {
  const float* gradients;
  float *parameters, *m, *v;
  std::size_t count;  // a multiple of kCpuAdamElements
};
inline constexpr std::size_t kCpuAdamElements = 128;  // 8 registers of 16 floats

// On the widest vectors of this CPU. The coefficients are adamw's.
void cpu_adam_shape(const Coefficients& coefficients, const CpuAdamArgs& args);

}  // namespace penstock::bench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/check_args.h"
#include "kernels/math/norm_lanes.h"
#include "kernels/norms.h"

namespace penstock {

namespace scalar {
extern const NormKernels kNormKernels;
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The *-inl.h headers of this project are compiled once per instruction set, each time in that
// target's namespace, so that one source serves Highway's vectors and plain floats alike. Included
// after Highway, they land in Highway's current target; otherwise in penstock::scalar, or in
// penstock::cuda where PENSTOCK_TARGET_CUDA is defined. No include guard: the macros must be set
// anew for each target.

#include "kernels/math/device.h"

#undef PENSTOCK_BEGIN_TARGET
#undef PENSTOCK_END_TARGET
#ifdef HWY_TARGET
#define PENSTOCK_BEGIN_TARGET \
  HWY_BEFORE_NAMESPACE();     \
  namespace penstock {        \
  namespace HWY_NAMESPACE {
#define PENSTOCK_END_TARGET \
  }                         \
  }                         \
  HWY_AFTER_NAMESPACE();
#elif defined(PENSTOCK_TARGET_CUDA)
#define PENSTOCK_BEGIN_TARGET \
  namespace penstock {        \
  namespace cuda {
#define PENSTOCK_END_TARGET \
  }                         \
  }
#else
#define PENSTOCK_BEGIN_TARGET \
  namespace penstock {        \
  namespace scalar {
#define PENSTOCK_END_TARGET \
  }                         \
  }
#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Is every value finite? By its exponent: all ones in a NaN and in an infinity.

#if defined(PENSTOCK_KERNELS_CPU_FINITE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_FINITE_INL_H
#undef PENSTOCK_KERNELS_CPU_FINITE_INL_H
#else
#define PENSTOCK_KERNELS_CPU_FINITE_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "kernels/dtype.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

// Without its sign a code is the greater the greater the value, infinity and the NaNs last.
template <class Code>
HWY_INLINE bool all_below(const void* values, std::size_t count, Code infinity) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr Code kMagnitude = std::numeric_limits<Code>::max();
  constexpr std::size_t kStride = 4;  // vectors; maxima side by side, so that loads set the pace
  const hn::ScalableTag<Code> d;
  constexpr std::size_t kLanesOfCode = HWY_LANES(Code);
  const auto* codes = static_cast<const Code*>(values);
  const auto magnitude = hn::Set(d, kMagnitude);
  decltype(hn::Zero(d)) most[kStride];
  for (auto& zero : most) zero = hn::Zero(d);
  std::size_t i = 0;
  for (; i + kStride * kLanesOfCode <= count; i += kStride * kLanesOfCode)
    for (std::size_t j = 0; j < kStride; ++j)
      most[j] = hn::Max(most[j], hn::And(hn::LoadU(d, codes + i + j * kLanesOfCode), magnitude));
  const auto all = hn::Max(hn::Max(most[0], most[1]), hn::Max(most[2], most[3]));
  bool below = hn::AllTrue(d, hn::Lt(all, hn::Set(d, infinity)));
  for (; i < count; ++i) below = below && (codes[i] & kMagnitude) < infinity;
  return below;
}

inline bool finite(const void* values, DType dtype, std::size_t count) {
  switch (dtype) {
    case DType::kFloat32:
      return all_below<std::int32_t>(values, count, 0x7f80'0000);
    case DType::kFloat16:
      return all_below<std::int16_t>(values, count, 0x7c00);
    case DType::kBfloat16:
      return all_below<std::int16_t>(values, count, 0x7f80);
  }
  return true;
}

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Loads and stores of the first few elements of a vector, for the ends of rows: rows may be
// narrower than a vector, and what lies behind one belongs to somebody else.

#if defined(PENSTOCK_KERNELS_ROWS_PARTIAL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_ROWS_PARTIAL_INL_H
#undef PENSTOCK_KERNELS_ROWS_PARTIAL_INL_H
#else
#define PENSTOCK_KERNELS_ROWS_PARTIAL_INL_H
#endif

#include <cstring>

#include "kernels/cpu/vector-inl.h"

PENSTOCK_BEGIN_TARGET

// All lanes: what the middle of a row takes.
struct AllLanes {
  HWY_INLINE Vector load(const float* from) const { return Float32::load(from); }
  HWY_INLINE void store(Vector v, float* to) const { Float32::store(v, to); }
  HWY_INLINE Vector only(Vector v) const { return v; }
};

// The first `count` lanes; the others load as 0 and are not stored.
struct FirstLanes {
  hn::Mask<Floats> mask;
  std::size_t count;

  HWY_INLINE explicit FirstLanes(std::size_t n) : mask(hn::FirstN(Floats(), n)), count(n) {}
  HWY_INLINE Vector only(Vector v) const { return hn::IfThenElseZero(mask, v); }
#if HWY_ARCH_X86  // masks that touch nothing else
  HWY_INLINE Vector load(const float* from) const { return hn::MaskedLoad(mask, Floats(), from); }
  HWY_INLINE void store(Vector v, float* to) const { hn::BlendedStore(v, mask, Floats(), to); }
#else
  HWY_INLINE Vector load(const float* from) const {
    alignas(HWY_ALIGNMENT) float lanes[kLanes] = {};
    std::memcpy(lanes, from, count * sizeof(float));
    return hn::Load(Floats(), lanes);
  }
  HWY_INLINE void store(Vector v, float* to) const {
    alignas(HWY_ALIGNMENT) float lanes[kLanes];
    hn::Store(v, Floats(), lanes);
    std::memcpy(to, lanes, count * sizeof(float));
  }
#endif
};

// The first lanes of any element type.
template <class Type>
HWY_INLINE Vector load_first(const FirstLanes&, const typename Type::Element* from,
                             std::size_t count) {
  typename Type::Element lanes[kLanes] = {};
  std::memcpy(lanes, from, count * sizeof(lanes[0]));
  return Type::load(lanes);
}
template <>
HWY_INLINE Vector load_first<Float32>(const FirstLanes& lanes, const float* from, std::size_t) {
  return lanes.load(from);
}

PENSTOCK_END_TARGET

#endif

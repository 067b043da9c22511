// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// encode and decode of whole arrays.

#if defined(PENSTOCK_KERNELS_CPU_CONVERT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_CONVERT_INL_H
#undef PENSTOCK_KERNELS_CPU_CONVERT_INL_H
#else
#define PENSTOCK_KERNELS_CPU_CONVERT_INL_H
#endif

#include <cstring>

#include "kernels/cpu/vector-inl.h"

PENSTOCK_BEGIN_TARGET

// Copies [count] elements of type From to type To, a vector at a time, the rest through padding.
template <class From, class To>
void convert(const typename From::Element* from, typename To::Element* to, std::size_t count) {
  const std::size_t whole = count / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes)
    To::store(canonical(From::load(from + i)), to + i);
  if (whole == count) return;
  typename From::Element padded[kLanes] = {};
  typename To::Element converted[kLanes];
  std::memcpy(padded, from + whole, (count - whole) * sizeof(padded[0]));
  To::store(canonical(From::load(padded)), converted);
  std::memcpy(to + whole, converted, (count - whole) * sizeof(converted[0]));
}

inline void encode(const float* values, void* wire, DType dtype, std::size_t count) {
  with_element(dtype, [&](auto type) HWY_ATTR {
    using Type = decltype(type);
    convert<Float32, Type>(values, static_cast<typename Type::Element*>(wire), count);
  });
}

inline void decode(const void* wire, DType dtype, float* values, std::size_t count) {
  with_element(dtype, [&](auto type) HWY_ATTR {
    using Type = decltype(type);
    convert<Type, Float32>(static_cast<const typename Type::Element*>(wire), values, count);
  });
}

PENSTOCK_END_TARGET

#endif

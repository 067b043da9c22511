// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The vocabulary of math/*-inl.h on Highway vectors, and the three element types as loads and
// stores of a whole vector of floats.

#if defined(PENSTOCK_KERNELS_CPU_VECTOR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_VECTOR_INL_H
#undef PENSTOCK_KERNELS_CPU_VECTOR_INL_H
#else
#define PENSTOCK_KERNELS_CPU_VECTOR_INL_H
#endif

#include <hwy/highway.h>

#include "kernels/dtype.h"
#include "kernels/math/half.h"
#include "kernels/math/target-inl.h"

PENSTOCK_BEGIN_TARGET

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
inline constexpr std::size_t kLanes = HWY_LANES(float);

template <class V>
HWY_INLINE V splat(float value) {
  return hn::Set(Floats(), value);
}
HWY_INLINE Vector add(Vector a, Vector b) { return hn::Add(a, b); }
HWY_INLINE Vector sub(Vector a, Vector b) { return hn::Sub(a, b); }
HWY_INLINE Vector mul(Vector a, Vector b) { return hn::Mul(a, b); }
HWY_INLINE Vector div(Vector a, Vector b) { return hn::Div(a, b); }
HWY_INLINE Vector fma(Vector a, Vector b, Vector c) { return hn::MulAdd(a, b, c); }
HWY_INLINE Vector fnma(Vector a, Vector b, Vector c) { return hn::NegMulAdd(a, b, c); }
HWY_INLINE Vector root(Vector a) { return hn::Sqrt(a); }
HWY_INLINE Vector magnitude(Vector a) { return hn::Abs(a); }
HWY_INLINE Vector copy_sign(Vector a, Vector b) { return hn::CopySign(a, b); }
HWY_INLINE Vector larger(Vector a, Vector b) { return hn::IfThenElse(hn::Gt(a, b), a, b); }
HWY_INLINE Vector where_at_most_zero(Vector a, Vector b, Vector c) {
  return hn::IfThenElse(hn::Le(a, hn::Zero(Floats())), b, c);
}

// See math/half.h.
HWY_INLINE Vector canonical(Vector v) {
  const auto nan = hn::BitCast(Floats(), hn::Set(hn::RebindToUnsigned<Floats>(), kQuietNan));
  return hn::IfThenElse(hn::IsNaN(v), nan, v);
}

// An element type: load() gives floats (NaN payloads as they come), store() takes canonical ones.
// store_two() is for neighbours: one store of 16-bit codes instead of two halves is worth a tenth
// to a fifth in cache. stream_two() stores around the caches and wants an aligned address.
struct Float32 {
  using Element = float;
  static HWY_INLINE Vector load(const Element* from) { return hn::LoadU(Floats(), from); }
  static HWY_INLINE void store(Vector v, Element* to) { hn::StoreU(v, Floats(), to); }
  static HWY_INLINE void store_two(Vector a, Vector b, Element* to) {
    store(a, to);
    store(b, to + kLanes);
  }
  static HWY_INLINE void stream_two(Vector a, Vector b, Element* to) {
    hn::Stream(a, Floats(), to);
    hn::Stream(b, Floats(), to + kLanes);
  }
};

struct Bfloat16 {
  using Element = std::uint16_t;
  using Codes = hn::Rebind<Element, Floats>;
  using TwoCodes = hn::Repartition<Element, Floats>;
  using Words = hn::RebindToUnsigned<Floats>;

  static HWY_INLINE Vector load(const Element* from) {
    const auto words = hn::PromoteTo(Words(), hn::LoadU(Codes(), from));
    return hn::BitCast(Floats(), hn::ShiftLeft<16>(words));
  }
  // The codes are the upper halves of the words. Spelled out, because Highway 1.0.3 truncates.
  static HWY_INLINE hn::Vec<Words> round(Vector v) {
    const auto bits = hn::BitCast(Words(), v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(Words(), 1));
    return hn::Add(hn::Add(bits, hn::Set(Words(), 0x7fff)), odd);
  }
  static HWY_INLINE hn::Vec<TwoCodes> round_two(Vector a, Vector b) {
    const TwoCodes two;
    return hn::ConcatOdd(two, hn::BitCast(two, round(b)), hn::BitCast(two, round(a)));
  }
  // The upper halves of words, in one instruction where there is one.
  static HWY_INLINE void store_upper(hn::Vec<Words> words, Element* to) {
    const hn::Repartition<Element, Words> halves;
    const auto all = hn::BitCast(halves, words);
    hn::StoreU(hn::LowerHalf(Codes(), hn::ConcatOdd(halves, all, all)), Codes(), to);
  }
  static HWY_INLINE void store(Vector v, Element* to) { store_upper(round(v), to); }
  static HWY_INLINE void store_two(Vector a, Vector b, Element* to) {
    hn::StoreU(round_two(a, b), TwoCodes(), to);
  }
  static HWY_INLINE void stream_two(Vector a, Vector b, Element* to) {
    hn::Stream(round_two(a, b), TwoCodes(), to);
  }
};

struct Float16 {
  using Element = std::uint16_t;
  using Codes = hn::Rebind<Element, Floats>;
  using TwoCodes = hn::Repartition<Element, Floats>;
  using Halves = hn::Rebind<hwy::float16_t, Floats>;

  static HWY_INLINE Vector load(const Element* from) {
    return hn::PromoteTo(Floats(), hn::BitCast(Halves(), hn::LoadU(Codes(), from)));
  }
  static HWY_INLINE hn::Vec<Codes> round(Vector v) {
    return hn::BitCast(Codes(), hn::DemoteTo(Halves(), v));
  }
  static HWY_INLINE void store(Vector v, Element* to) { hn::StoreU(round(v), Codes(), to); }
  static HWY_INLINE void store_two(Vector a, Vector b, Element* to) {
    hn::StoreU(hn::Combine(TwoCodes(), round(b), round(a)), TwoCodes(), to);
  }
  static HWY_INLINE void stream_two(Vector a, Vector b, Element* to) {
    hn::Stream(hn::Combine(TwoCodes(), round(b), round(a)), TwoCodes(), to);
  }
};

// Calls `visit` with the element type of `dtype`.
template <class Visitor>
HWY_INLINE void with_element(DType dtype, const Visitor& visit) {
  switch (dtype) {
    case DType::kFloat32:
      return visit(Float32());
    case DType::kFloat16:
      return visit(Float16());
    case DType::kBfloat16:
      return visit(Bfloat16());
  }
}

PENSTOCK_END_TARGET

#endif

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// How a rule's state planes are kept: in float32, or in bf16 with stochastic rounding. store()
// writes a vector of each plane at `at`, where the element of the key is `element`.

#if defined(PENSTOCK_KERNELS_CPU_STATE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_STATE_INL_H
#undef PENSTOCK_KERNELS_CPU_STATE_INL_H
#else
#define PENSTOCK_KERNELS_CPU_STATE_INL_H
#endif

#include "kernels/cpu/vector-inl.h"
#include "kernels/math/rounding.h"

PENSTOCK_BEGIN_TARGET

struct Float32State {
  using Element = float;
  explicit Float32State(std::uint32_t) {}
  static HWY_INLINE Vector load(const Element* from) { return Float32::load(from); }
  template <std::uint32_t kPlanes>
  HWY_INLINE void store(const Vector* state, Element* const* planes, std::size_t at,
                        std::uint32_t) const {
    for (std::uint32_t s = 0; s < kPlanes; ++s) Float32::store(canonical(state[s]), planes[s] + at);
  }
};

// See math/rounding.h.
struct Bfloat16State {
  using Element = std::uint16_t;
  using Words = Bfloat16::Words;

  explicit Bfloat16State(std::uint32_t rounding_key)
      : key(rounding_key), lanes(hn::Mul(hn::Iota(Words(), 0), hn::Set(Words(), kRoundingStep))) {}
  static HWY_INLINE Vector load(const Element* from) { return Bfloat16::load(from); }
  // Plane by plane in words: as a loop it would be too long for the compiler to unroll.
  template <std::uint32_t kPlanes>
  HWY_INLINE void store(const Vector* state, Element* const* planes, std::size_t at,
                        std::uint32_t element) const {
    static_assert(kPlanes <= 3);
    if constexpr (kPlanes > 0) {
      const auto word = random_word(element, key);
      store_rounded(state[0], hn::ShiftRight<16>(word), planes[0] + at);
      if constexpr (kPlanes > 1)
        store_rounded(state[1], hn::And(word, hn::Set(Words(), 0xffff)), planes[1] + at);
    }
    if constexpr (kPlanes > 2) {
      const auto word = random_word(element, key + kRoundingNextWord);
      store_rounded(state[2], hn::ShiftRight<16>(word), planes[2] + at);
    }
  }

 private:
  static HWY_INLINE void store_rounded(Vector v, hn::Vec<Words> bits, Element* to) {
    Bfloat16::store_upper(hn::Add(hn::BitCast(Words(), canonical(v)), bits), to);
  }
  HWY_INLINE hn::Vec<Words> random_word(std::uint32_t element, std::uint32_t with) const {
    auto x = hn::Add(lanes, hn::Set(Words(), element * kRoundingStep + with));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(Words(), kRoundingFactor));
    return hn::Xor(x, hn::ShiftRight<16>(x));
  }

  std::uint32_t key;
  hn::Vec<Words> lanes;  // multiples of kRoundingStep; Iota() goes through memory
};

PENSTOCK_END_TARGET

#endif

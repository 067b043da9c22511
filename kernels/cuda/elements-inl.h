// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Element types as loads and stores of kPerThread floats at once, in 128-bit pieces, and of one.

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/vocabulary-inl.h"
#include "kernels/dtype.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

PENSTOCK_BEGIN_TARGET

inline constexpr std::uint32_t kPerThread = 8;

// One 128-bit access; the address is a multiple of 16.
struct __attribute__((may_alias, aligned(16))) Quad {
  std::uint32_t word[4];
};

// One 32-bit access.
struct __attribute__((may_alias, aligned(4))) Word {
  std::uint32_t bits;
};

// `pointer`, known to point to global memory: an access through it needs no look at the address.
#ifdef __CUDA_ARCH__
template <class T>
PENSTOCK_DEVICE inline T* global(T* pointer) {
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}
#else
template <class T>
PENSTOCK_DEVICE inline T* global(T* pointer) {
  return pointer;
}
#endif

// GPUs convert fp16 in one instruction. It agrees with half.h except for NaN payloads.
#ifdef __CUDACC__
PENSTOCK_DEVICE inline float from_fp16(std::uint16_t code) {
  return __half2float(__ushort_as_half(code));
}
PENSTOCK_DEVICE inline std::uint16_t to_fp16(float value) {
  return value == value ? __half_as_ushort(__float2half_rn(value)) : std::uint16_t{0x7e00};
}
#else
inline float from_fp16(std::uint16_t code) { return fp16_to_float(code); }
inline std::uint16_t to_fp16(float value) { return float_to_fp16(value); }
#endif

struct Float32 {
  using Element = float;
  PENSTOCK_DEVICE static float decode(float value) { return value; }
  PENSTOCK_DEVICE static float encode(float value) { return canonical(value); }

  PENSTOCK_DEVICE static void load(const float* from, float (&to)[kPerThread]) {
    for (std::uint32_t q = 0; q < 2; ++q) {
      const Quad quad = global(reinterpret_cast<const Quad*>(from))[q];
      for (std::uint32_t i = 0; i < 4; ++i) to[4 * q + i] = std::bit_cast<float>(quad.word[i]);
    }
  }
  PENSTOCK_DEVICE static void store(const float (&from)[kPerThread], float* to) {
    for (std::uint32_t q = 0; q < 2; ++q) {
      Quad quad;
      for (std::uint32_t i = 0; i < 4; ++i)
        quad.word[i] = std::bit_cast<std::uint32_t>(canonical(from[4 * q + i]));
      global(reinterpret_cast<Quad*>(to))[q] = quad;
    }
  }
};

// The two 16-bit types, which differ in one element's conversion.
template <float (*kDecode)(std::uint16_t), std::uint16_t (*kEncode)(float)>
struct Sixteen {
  using Element = std::uint16_t;
  PENSTOCK_DEVICE static float decode(std::uint16_t code) { return kDecode(code); }
  PENSTOCK_DEVICE static std::uint16_t encode(float value) { return kEncode(value); }

  PENSTOCK_DEVICE static void load(const std::uint16_t* from, float (&to)[kPerThread]) {
    const Quad quad = *global(reinterpret_cast<const Quad*>(from));
    for (std::uint32_t i = 0; i < 4; ++i) {
      to[2 * i] = kDecode(static_cast<std::uint16_t>(quad.word[i] & 0xffff));
      to[2 * i + 1] = kDecode(static_cast<std::uint16_t>(quad.word[i] >> 16));
    }
  }
  PENSTOCK_DEVICE static void store(const float (&from)[kPerThread], std::uint16_t* to) {
    Quad quad;
    for (std::uint32_t i = 0; i < 4; ++i)
      quad.word[i] = kEncode(from[2 * i]) | std::uint32_t{kEncode(from[2 * i + 1])} << 16;
    *global(reinterpret_cast<Quad*>(to)) = quad;
  }
};
using Float16 = Sixteen<from_fp16, to_fp16>;
using Bfloat16 = Sixteen<bf16_to_float, float_to_bf16>;

// Values as a slice's outgoing copy, which may be absent.
PENSTOCK_DEVICE inline void store_wire(const float (&values)[kPerThread], void* wire, DType dtype,
                                       std::uint64_t begin) {
  if (wire == nullptr) return;
  if (dtype == DType::kBfloat16)
    Bfloat16::store(values, static_cast<std::uint16_t*>(wire) + begin);
  else if (dtype == DType::kFloat16)
    Float16::store(values, static_cast<std::uint16_t*>(wire) + begin);
  else
    Float32::store(values, static_cast<float*>(wire) + begin);
}
PENSTOCK_DEVICE inline void store_wire(float value, void* wire, DType dtype, std::uint64_t i) {
  if (wire == nullptr) return;
  if (dtype == DType::kBfloat16)
    static_cast<std::uint16_t*>(wire)[i] = Bfloat16::encode(value);
  else if (dtype == DType::kFloat16)
    static_cast<std::uint16_t*>(wire)[i] = Float16::encode(value);
  else
    static_cast<float*>(wire)[i] = Float32::encode(value);
}

PENSTOCK_END_TARGET

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The kernels as tables of functions, one per instruction set. Start here: choose a table once
// (best_kernels()) and hand it to whoever computes, as a constructor argument.

#include <cstddef>
#include <span>
#include <string_view>

#include "kernels/codec/kernels.h"
#include "kernels/dtype.h"
#include "kernels/optimizer.h"
#include "kernels/update.h"

namespace penstock {

// Immutable, lives as long as the program. Functions may be called from any thread at once; they
// allocate nothing and keep nothing.
struct KernelTable {
  const char* target;  // "scalar", or Highway's name of the instruction set: "AVX2", "AVX3", "NEON"

  // One round of one slice; see UpdateArgs. `coefficients` come from fold(). False when some
  // element of the scaled sum was a NaN or an infinity; the update happened all the same.
  bool (*update)(const Coefficients& coefficients, const UpdateArgs& args);

  // Rounds [count] floats to the wire dtype, to nearest even; overflow gives ±inf.
  void (*encode)(const float* values, void* wire, DType dtype, std::size_t count);

  // Exact.
  void (*decode)(const void* wire, DType dtype, float* values, std::size_t count);

  // True when none of [count] values is a NaN or an infinity. Reads each once.
  bool (*finite)(const void* values, DType dtype, std::size_t count);
  const CodecKernels* codecs;
};

// Every table this CPU can run, worst first; the first is "scalar", the plain reference.
std::span<const KernelTable* const> available_kernels();

// The last of available_kernels().
const KernelTable& best_kernels();

// By name, exactly; nullptr when this CPU or this build has no such target.
const KernelTable* find_kernels(std::string_view target);

}  // namespace penstock

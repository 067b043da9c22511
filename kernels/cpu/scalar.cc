// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/scalar.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/check_args.h"
#include "kernels/cpu/codec_scalar.h"
#include "kernels/cpu/scalar_vocabulary.h"
#include "kernels/math/half.h"
#include "kernels/math/optimizers-inl.h"

namespace penstock::scalar {
namespace {

template <class T>
T load(const void* base, std::size_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(base) + i * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void store(void* base, std::size_t i, T value) {
  std::memcpy(static_cast<char*>(base) + i * sizeof(T), &value, sizeof(T));
}

float read(const void* base, DType dtype, std::size_t i) {
  switch (dtype) {
    case DType::kFloat32:
      return load<float>(base, i);
    case DType::kFloat16:
      return fp16_to_float(load<std::uint16_t>(base, i));
    case DType::kBfloat16:
      return bf16_to_float(load<std::uint16_t>(base, i));
  }
  return 0;
}

void write(void* base, DType dtype, std::size_t i, float value) {
  switch (dtype) {
    case DType::kFloat32:
      return store(base, i, canonical(value));
    case DType::kFloat16:
      return store(base, i, float_to_fp16(value));
    case DType::kBfloat16:
      return store(base, i, float_to_bf16(value));
  }
}

template <class Rule>
void update_elements(const Rule& rule, float clip, const UpdateArgs& args,
                     const void* const* present, std::uint32_t workers) {
  for (std::size_t i = 0; i < args.count; ++i) {
    float sum = workers == 0 ? 0.0F : read(present[0], args.gradient_dtype, i);
    for (std::uint32_t w = 1; w < workers; ++w) sum += read(present[w], args.gradient_dtype, i);
    float p = args.parameters[i];
    float state[kMaxStatePlanes] = {};
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) state[s] = args.state[s][i];
    rule(p, clipped(sum * args.scale, clip), state);
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) args.state[s][i] = canonical(state[s]);
    args.parameters[i] = canonical(p);
    if (args.wire != nullptr) write(args.wire, args.wire_dtype, i, p);
  }
}

void update(const Coefficients& coefficients, const UpdateArgs& args);

// The decoded gradients' sum takes the place of one gradient.
void update_encoded(const Coefficients& coefficients, const UpdateArgs& args) {
  const void* present[kMaxWorkers];
  const std::uint32_t workers = present_gradients(coefficients.rule, args, present);
  EncodedGradients encoded(*args.codec, present, workers, args.count);
  float sums[kSummedAtOnce];
  const void* const summed = sums;
  for (std::size_t begin = 0; begin < args.count; begin += kSummedAtOnce) {
    UpdateArgs part = args;
    part.codec = nullptr;
    part.gradient_dtype = DType::kFloat32;
    part.gradients = &summed;
    part.workers = 1;
    part.count = std::min(kSummedAtOnce, args.count - begin);
    part.parameters += begin;
    for (std::uint32_t s = 0; s < state_planes(coefficients.rule); ++s) part.state[s] += begin;
    if (args.wire != nullptr)
      part.wire = static_cast<char*>(args.wire) + begin * dtype_bytes(args.wire_dtype);
    sum_encoded(encoded, begin, begin + part.count, sums);
    update(coefficients, part);
  }
}

void update(const Coefficients& coefficients, const UpdateArgs& args) {
  if (args.codec != nullptr) return update_encoded(coefficients, args);
  const void* present[kMaxWorkers];
  const std::uint32_t workers = present_gradients(coefficients.rule, args, present);
  with_rule<float>(coefficients, [&](const auto& rule) {
    update_elements(rule, coefficients.clip, args, present, workers);
  });
}

void encode(const float* values, void* wire, DType dtype, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) write(wire, dtype, i, values[i]);
}

void decode(const void* wire, DType dtype, float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) values[i] = canonical(read(wire, dtype, i));
}

}  // namespace

const KernelTable kKernels = {"scalar", update, encode, decode, &kCodecs};

}  // namespace penstock::scalar

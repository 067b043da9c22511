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
#include "kernels/math/rounding.h"

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

float read_state(const Coefficients& c, const UpdateArgs& args, std::uint32_t plane,
                 std::size_t i) {
  return read(args.state[plane],
              c.state_dtype == StateDType::kFloat32 ? DType::kFloat32 : DType::kBfloat16, i);
}

void write_state(const Coefficients& c, const UpdateArgs& args, std::uint32_t plane, std::size_t i,
                 float value) {
  if (c.state_dtype == StateDType::kFloat32)
    return write(args.state[plane], DType::kFloat32, i, value);
  const auto element = static_cast<std::uint32_t>(args.first_element + i);
  store(args.state[plane], i, round_to_bf16(value, rounding_bits(element, c.rounding_key, plane)));
}

// What the rule gets to see of the scaled sum.
float prepared(const Coefficients& c, const UpdateArgs& args, std::uint32_t seen_plane,
               std::size_t i, float g) {
  const float p = args.parameters[i];
  g = clipped(g, c.clip);
  if (c.compensation != 0) {
    void* const seen = args.state[seen_plane];
    g = compensated(g, p, read(seen, DType::kFloat32, i), c.compensation);
    write(seen, DType::kFloat32, i, p);
  }
  return c.l1 != 0 ? penalized(g, p, c.l1) : g;
}

template <class Rule>
bool update_elements(const Rule& rule, const Coefficients& c, const UpdateArgs& args,
                     const void* const* present, std::uint32_t workers) {
  bool finite = true;
  for (std::size_t i = 0; i < args.count; ++i) {
    float sum = workers == 0 ? 0.0F : read(present[0], args.gradient_dtype, i);
    for (std::uint32_t w = 1; w < workers; ++w) sum += read(present[w], args.gradient_dtype, i);
    finite = finite && std::isfinite(sum * args.scale);
    float p = args.parameters[i];
    float state[kMaxStatePlanes] = {};
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) state[s] = read_state(c, args, s, i);
    rule(p, prepared(c, args, Rule::kPlanes, i, sum * args.scale), state);
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) write_state(c, args, s, i, state[s]);
    args.parameters[i] = canonical(p);
    if (args.wire != nullptr) write(args.wire, args.wire_dtype, i, p);
  }
  return finite;
}

bool update(const Coefficients& coefficients, const UpdateArgs& args);

// The decoded gradients' sum takes the place of one gradient.
bool update_encoded(const Coefficients& coefficients, const UpdateArgs& args) {
  const void* present[kMaxWorkers];
  const std::uint32_t workers = present_gradients(coefficients, args, present);
  EncodedGradients encoded(*args.codec, present, workers, args.count);
  float sums[kSummedAtOnce];
  const void* const summed = sums;
  const std::uint32_t rule_planes = state_planes(coefficients.rule);
  bool finite = true;
  for (std::size_t begin = 0; begin < args.count; begin += kSummedAtOnce) {
    UpdateArgs part = args;
    part.codec = nullptr;
    part.gradient_dtype = DType::kFloat32;
    part.gradients = &summed;
    part.workers = 1;
    part.count = std::min(kSummedAtOnce, args.count - begin);
    part.parameters += begin;
    part.first_element += begin;
    for (std::uint32_t s = 0; s < state_planes(coefficients); ++s)
      part.state[s] =
          static_cast<char*>(args.state[s]) +
          begin * (s < rule_planes ? state_bytes(coefficients.state_dtype) : sizeof(float));
    if (args.wire != nullptr)
      part.wire = static_cast<char*>(args.wire) + begin * dtype_bytes(args.wire_dtype);
    sum_encoded(encoded, begin, begin + part.count, sums);
    finite &= update(coefficients, part);
  }
  return finite;
}

bool update(const Coefficients& coefficients, const UpdateArgs& args) {
  if (args.codec != nullptr) return update_encoded(coefficients, args);
  const void* present[kMaxWorkers];
  const std::uint32_t workers = present_gradients(coefficients, args, present);
  bool finite = true;
  with_rule<float>(coefficients, [&](const auto& rule) {
    finite = update_elements(rule, coefficients, args, present, workers);
  });
  return finite;
}

void encode(const float* values, void* wire, DType dtype, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) write(wire, dtype, i, values[i]);
}

void decode(const void* wire, DType dtype, float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) values[i] = canonical(read(wire, dtype, i));
}

bool finite(const void* values, DType dtype, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    if (!std::isfinite(read(values, dtype, i))) return false;
  return true;
}

}  // namespace

const KernelTable kKernels = {"scalar", update, encode, decode, finite, &kCodecs};

}  // namespace penstock::scalar

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Gradients that gpu_check tries, and numbers for lamb and adam.

#include <vector>

#include "kernels/cuda/pass.h"

namespace penstock::cuda {

// What the gradients are: a type, or a codec.
struct Form {
  const char* name;
  GradientType type;
  CodecSpec codec;
};
inline Form codec_form(const char* name, CodecKind kind, std::uint32_t block = 256) {
  CodecSpec codec;
  codec.kind = kind;
  codec.block = block;
  return {name, GradientType::kEncoded, codec};
}
inline std::vector<Form> forms() {
  return {
      {"fp32", GradientType::kFloat32, {}},        {"fp16", GradientType::kFloat16, {}},
      {"bf16", GradientType::kBfloat16, {}},       codec_form("fp8_e4m3", CodecKind::kFp8E4M3, 64),
      codec_form("fp8_e5m2", CodecKind::kFp8E5M2), codec_form("int8", CodecKind::kInt8),
      codec_form("2bit", CodecKind::kTwoBit),      codec_form("1bit", CodecKind::kOneBit),
      codec_form("topk", CodecKind::kTopK)};
}

inline std::uint64_t kept_of(std::uint64_t count) { return (count + 2) / 3; }

inline std::size_t gradient_bytes(const Form& form, std::uint64_t count) {
  switch (form.codec.kind) {
    case CodecKind::kNone:
      return count * (form.type == GradientType::kFloat32 ? 4 : 2);
    case CodecKind::kTwoBit:
      return (count + 3) / 4;
    case CodecKind::kOneBit:
      return (count + 7) / 8;
    case CodecKind::kTopK:
      return kept_of(count) * 8;
    default:
      return codec_blocks(form.codec, count) * sizeof(float) + count;
  }
}

inline LambCoefficients lamb_coefficients() {
  LambCoefficients lamb;
  lamb.moments.rule = UpdateRule::kAdam;
  lamb.moments.beta1 = 0.9F;
  lamb.moments.one_minus_beta1 = 0.1F;
  lamb.moments.beta2 = 0.999F;
  lamb.moments.one_minus_beta2 = 0.001F;
  lamb.moments.step_gain = -0.001F;
  lamb.moments.root_gain = 1.5F;
  lamb.moments.epsilon = 1e-8F;
  lamb.moment_gain = 1.2F;
  lamb.weight_decay = 0.01F;
  lamb.rate = -0.003F;
  return lamb;
}

}  // namespace penstock::cuda

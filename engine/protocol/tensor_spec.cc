// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/protocol/tensor_spec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/protocol/limits.h"
#include "kernels/codec/codec_text.h"

namespace penstock {
namespace {

constexpr std::string_view kNotFiniteNames[] = {"accept", "skip", "fail"};

std::string difference(const OptimizerSpec& a, const OptimizerSpec& b) {
  if (a.kind != b.kind)
    return fmt::format("optimizer {} against {}", optimizer_name(a.kind), optimizer_name(b.kind));
  if (a.l1 != b.l1) return fmt::format("the optimizer's l1 {} against {}", a.l1, b.l1);
  if (a.compensation != b.compensation)
    return fmt::format("the optimizer's compensation {} against {}", a.compensation,
                       b.compensation);
  if (a.state_dtype != b.state_dtype)
    return fmt::format("optimizer state of {} against {} bytes", state_bytes(a.state_dtype),
                       state_bytes(b.state_dtype));
  if (a.rounding_seed != b.rounding_seed)
    return fmt::format("the optimizer's rounding_seed {} against {}", a.rounding_seed,
                       b.rounding_seed);
  return a == b ? "" : "the optimizer's options";
}

}  // namespace

std::string_view not_finite_name(NotFinite policy) {
  const auto index = static_cast<std::size_t>(policy);
  return index < std::size(kNotFiniteNames) ? kNotFiniteNames[index] : "?";
}

std::optional<NotFinite> parse_not_finite(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kNotFiniteNames); ++i)
    if (name == kNotFiniteNames[i]) return static_cast<NotFinite>(i);
  return std::nullopt;
}

static_assert(kMaxSliceBytes <= kMaxCodecCount / 2, "the index of an element fits a codec's");

std::uint64_t TensorSpec::elements() const {
  std::uint64_t product = 1;
  for (const std::uint64_t dimension : shape) product *= dimension;
  return product;
}

std::size_t TensorSpec::slice_element_bytes() const {
  return std::max(dtype_bytes(gradient_dtype), dtype_bytes(parameter_dtype));
}

std::uint64_t TensorSpec::slot_bytes(std::uint64_t count) const {
  if (!encoded()) return count * slice_element_bytes();
  const std::uint64_t gradient = encoded_bytes(codec, count);
  return from_worker_0 ? std::max(gradient, count * dtype_bytes(parameter_dtype)) : gradient;
}

std::string describe(const Declaration& declaration) {
  if (declaration.spec.name.empty()) return fmt::format("key {}", declaration.key);
  return fmt::format("key {} '{}'", declaration.key, declaration.spec.name);
}

Status validate(const Declaration& declaration) {
  const TensorSpec& spec = declaration.spec;
  const auto invalid = [&](std::string why) {
    return Status(Code::kInvalidArgument, fmt::format("{}: {}", describe(declaration), why));
  };
  if (spec.name.size() > kMaxNameBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("key {}: a name of {} bytes; at most {}", declaration.key,
                              spec.name.size(), kMaxNameBytes));
  if (spec.shape.empty()) return invalid("the shape has no dimension");
  if (spec.shape.size() > kMaxDimensions)
    return invalid(fmt::format("{} dimensions; at most {}", spec.shape.size(), kMaxDimensions));
  std::uint64_t product = 1;
  for (const std::uint64_t dimension : spec.shape) {
    if (dimension == 0) return invalid(fmt::format("an empty dimension in shape {}", spec.shape));
    if (dimension > kMaxElements / product)
      return invalid(fmt::format("shape {} has more than {} elements", spec.shape, kMaxElements));
    product *= dimension;
  }
  if (spec.not_finite > NotFinite::kFail)
    return invalid(fmt::format("not_finite is {}, but must be 0 (accept), 1 (skip) or 2 (fail)",
                               static_cast<unsigned>(spec.not_finite)));
  if (!(spec.gradient_scale >= kMinGradientScale && spec.gradient_scale <= kMaxGradientScale))
    return invalid(fmt::format("gradient_scale is {}, but must be from {} to {}",
                               spec.gradient_scale, kMinGradientScale, kMaxGradientScale));
  if (Status status = validate(spec.optimizer); !status.ok()) return invalid(status.what());
  if (spec.not_finite == NotFinite::kFail && spec.optimizer.clip_global_norm > 0)
    return invalid(
        "not_finite is fail, but must be accept or skip with clip_global_norm: the other tensors' "
        "norm would lack this one");
  if (Status status = validate(spec.initializer); !status.ok()) return invalid(status.what());
  if (Status status = validate(spec.codec); !status.ok()) return invalid(status.what());
  if (spec.encoded() && spec.gradient_dtype != DType::kFloat32)
    return Status(
               invalid(fmt::format("codec {} encodes fp32 gradients, not {}",
                                   codec_name(spec.codec.kind), dtype_name(spec.gradient_dtype))))
        .with_hint("declare fp32 gradients or no codec");
  return {};
}

std::string difference(const TensorSpec& a, const TensorSpec& b) {
  if (a.shape != b.shape) return fmt::format("shape {} against {}", a.shape, b.shape);
  if (a.gradient_dtype != b.gradient_dtype)
    return fmt::format("gradient dtype {} against {}", dtype_name(a.gradient_dtype),
                       dtype_name(b.gradient_dtype));
  if (a.parameter_dtype != b.parameter_dtype)
    return fmt::format("parameter dtype {} against {}", dtype_name(a.parameter_dtype),
                       dtype_name(b.parameter_dtype));
  if (!(a.codec == b.codec))
    return fmt::format("codec {} against {}", codec_text(a.codec), codec_text(b.codec));
  if (std::string words = difference(a.optimizer, b.optimizer); !words.empty()) return words;
  if (a.reduce != b.reduce) return "sum against mean";
  if (a.not_finite != b.not_finite)
    return fmt::format("not_finite {} against {}", not_finite_name(a.not_finite),
                       not_finite_name(b.not_finite));
  if (a.gradient_scale != b.gradient_scale)
    return fmt::format("gradient_scale {} against {}", a.gradient_scale, b.gradient_scale);
  if (a.name != b.name) return fmt::format("name '{}' against '{}'", a.name, b.name);
  if (a.priority != b.priority)
    return fmt::format("priority {} against {}", a.priority, b.priority);
  if (!(a == b)) return "the initial values";
  return {};
}

}  // namespace penstock

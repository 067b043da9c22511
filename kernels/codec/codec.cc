// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/codec/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace penstock {
namespace {

constexpr std::string_view kNames[kCodecKinds] = {"none", "fp8_e4m3", "fp8_e5m2", "int8",
                                                  "2bit", "1bit",     "topk"};

bool is_threshold(const CodecSpec& spec) {
  if (!std::isfinite(spec.threshold)) return false;
  return spec.kind == CodecKind::kOneBit ? spec.threshold >= 0 : spec.threshold > 0;
}

}  // namespace

Status validate(const CodecSpec& spec) {
  const auto bad = [](const char* field, auto value, const char* must) {
    return Status(Code::kInvalidArgument,
                  fmt::format("codec {} is {}, but must be {}", field, value, must));
  };
  if (static_cast<std::uint32_t>(spec.kind) >= kCodecKinds)
    return bad("kind", static_cast<int>(spec.kind), "a known one");
  if (!is_threshold(spec))
    return bad("threshold", spec.threshold, "finite and above 0 (1bit takes 0, too)");
  if (!std::has_single_bit(spec.block) || spec.block < kMinCodecBlock ||
      spec.block > kMaxCodecBlock)
    return bad("block", spec.block, "a power of two from 64 to 4096");
  if (!(spec.fraction > 0 && spec.fraction <= 1))
    return bad("fraction", spec.fraction, "above 0 and at most 1");
  return {};
}

std::string_view codec_name(CodecKind kind) {
  const auto index = static_cast<std::size_t>(kind);
  return index < kCodecKinds ? kNames[index] : "?";
}

std::optional<CodecKind> parse_codec(std::string_view name) {
  const auto* const found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) return std::nullopt;
  return static_cast<CodecKind>(found - std::begin(kNames));
}

std::size_t codec_kept(const CodecSpec& spec, std::size_t count) {
  const double share = std::ceil(spec.fraction * static_cast<double>(count));
  return std::clamp<std::size_t>(static_cast<std::size_t>(share), 1,
                                 std::max<std::size_t>(count, 1));
}

std::size_t encoded_bytes(const CodecSpec& spec, std::size_t count) {
  switch (spec.kind) {
    case CodecKind::kNone:
      return count * sizeof(float);
    case CodecKind::kFp8E4M3:
    case CodecKind::kFp8E5M2:
    case CodecKind::kInt8:
      return codec_blocks(spec, count) * sizeof(float) + count;
    case CodecKind::kTwoBit:
      return (count + 3) / 4;
    case CodecKind::kOneBit:
      return (count + 7) / 8;
    case CodecKind::kTopK:
      return codec_kept(spec, count) * (sizeof(std::uint32_t) + sizeof(float));
  }
  return 0;
}

}  // namespace penstock

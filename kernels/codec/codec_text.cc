// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/codec/codec_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <type_traits>
#include <vector>

namespace penstock {
namespace {

Status bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

// The one number each codec has; "" has none.
std::string_view field_of(CodecKind kind) {
  switch (kind) {
    case CodecKind::kFp8E4M3:
    case CodecKind::kFp8E5M2:
    case CodecKind::kInt8:
      return "block";
    case CodecKind::kTwoBit:
    case CodecKind::kOneBit:
      return "threshold";
    case CodecKind::kTopK:
      return "fraction";
    case CodecKind::kNone:
      return "";
  }
  return "";
}

template <class Value>
Status set_number(std::string_view field, std::string_view text, Value& number) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && stop == end) return {};
  return bad(fmt::format("codec {} is '{}', but must be a {}", field, text,
                         std::is_integral_v<Value> ? "whole number" : "number"));
}

Status set_field(CodecSpec& spec, std::string_view field, std::string_view value) {
  if (field == "block") return set_number(field, value, spec.block);
  if (field == "threshold") return set_number(field, value, spec.threshold);
  return set_number(field, value, spec.fraction);
}

}  // namespace

std::string codec_names() {
  std::vector<std::string_view> names;
  for (std::uint32_t i = 0; i < kCodecKinds; ++i)
    names.push_back(codec_name(static_cast<CodecKind>(i)));
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string codec_text(const CodecSpec& spec) {
  const std::string_view name = codec_name(spec.kind);
  const std::string_view field = field_of(spec.kind);
  if (field == "block") return fmt::format("{}:block={}", name, spec.block);
  if (field == "threshold") return fmt::format("{}:threshold={}", name, spec.threshold);
  if (field == "fraction") return fmt::format("{}:fraction={}", name, spec.fraction);
  return std::string(name);
}

Result<CodecSpec> parse_codec_spec(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const std::optional<CodecKind> kind = parse_codec(name);
  if (!kind)
    return bad(fmt::format("no codec is called '{}'", name))
        .with_hint(fmt::format("known: {}", codec_names()));
  CodecSpec spec;
  spec.kind = *kind;
  if (colon != text.npos) {
    const std::string_view field = text.substr(colon + 1);
    const std::size_t equals = field.find('=');
    if (equals == field.npos)
      return bad(fmt::format("'{}' in codec '{}' has no '='", field, text))
          .with_hint("write NAME:FIELD=VALUE");
    const std::string_view known = field_of(*kind);
    const std::string_view key = field.substr(0, equals);
    if (key != known)
      return bad(fmt::format("codec {} has no field '{}'", name, key))
          .with_hint(known.empty() ? "it has none" : fmt::format("known: {}", known));
    PENSTOCK_RETURN_IF_ERROR(set_field(spec, key, field.substr(equals + 1)));
  }
  PENSTOCK_RETURN_IF_ERROR(validate(spec));
  return spec;
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/sizes.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

namespace penstock::psbench {
namespace {

Status refused(std::string_view text, std::string_view why) {
  return Status(Code::kInvalidArgument, fmt::format("\"{}\" {}", text, why));
}

std::optional<std::uint64_t> shift_of(std::string_view suffix) {
  if (suffix.empty()) return 0;
  if (suffix == "K") return 10;
  if (suffix == "M") return 20;
  if (suffix == "G") return 30;
  return std::nullopt;
}

// The part before `separator`; `text` keeps what follows it.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view part = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return part;
}

struct Step {
  std::uint64_t factor = 2;
  std::uint64_t addend = 0;
  std::uint64_t after(std::uint64_t size) const { return size * factor + addend; }
};

Result<Step> parse_step(std::string_view text) {
  if (text.starts_with('+')) {
    PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t addend, parse_size(text.substr(1)));
    return Step{1, addend};
  }
  std::uint64_t factor = 0;
  const char* end = text.data() + text.size();
  if (!text.starts_with('x') ||
      std::from_chars(text.data() + 1, end, factor) != std::from_chars_result{end, std::errc()} ||
      factor < 2 || factor > kMaxSizeBytes / 2)
    return refused(text, "is not a step; write x4 to multiply or +1M to add");
  return Step{factor, 0};
}

Status append_range(std::string_view text, std::vector<std::uint64_t>& sizes) {
  std::string_view rest = text;
  PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t from, parse_size(take_until(rest, ':')));
  PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t to, parse_size(take_until(rest, ':')));
  Step step;
  if (text.ends_with(':')) return refused(text, "ends in a colon");
  if (!rest.empty()) {
    PENSTOCK_ASSIGN_OR_RETURN(step, parse_step(rest));
  }
  if (from > to) return refused(text, "counts down; write the smaller size first");
  // No overflow: both are below 2⁴⁰, and a factor above to / size ends the loop before it is used.
  for (std::uint64_t size = from; size <= to; size = step.after(size)) {
    if (sizes.size() == kMaxSizes)
      return refused(text, fmt::format("gives more than {} sizes", kMaxSizes));
    sizes.push_back(size);
    if (size > to / step.factor) break;
  }
  return {};
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t count = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const auto suffix = text.substr(static_cast<std::size_t>(stop - text.data()));
  const std::optional<std::uint64_t> shift = shift_of(suffix);
  if (error != std::errc() || !shift)
    return refused(text, "is not a size; write a number of bytes, or one with K, M or G");
  if (count == 0) return refused(text, "is not a size; the smallest is 1 byte");
  if (count > kMaxSizeBytes >> *shift)
    return refused(text, fmt::format("is more than {}", format_size(kMaxSizeBytes)));
  return count << *shift;
}

Result<std::vector<std::uint64_t>> parse_sizes(std::string_view text) {
  std::vector<std::uint64_t> sizes;
  std::string_view rest = text;
  do {
    const std::string_view part = take_until(rest, ',');
    if (part.find(':') != std::string_view::npos) {
      PENSTOCK_RETURN_IF_ERROR(append_range(part, sizes));
      continue;
    }
    PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t size, parse_size(part));
    if (sizes.size() == kMaxSizes)
      return refused(text, fmt::format("gives more than {} sizes", kMaxSizes));
    sizes.push_back(size);
  } while (!rest.empty());
  if (text.ends_with(',')) return refused(text, "ends in a comma");
  return sizes;
}

std::string format_size(std::uint64_t bytes) {
  for (const auto& [shift, suffix] : {std::pair{30, 'G'}, {20, 'M'}, {10, 'K'}}) {
    const std::uint64_t unit = std::uint64_t{1} << shift;
    if (bytes < unit) continue;
    if (bytes % unit == 0) return fmt::format("{}{}", bytes / unit, suffix);
    return fmt::format("{:.1f}{}", static_cast<double>(bytes) / static_cast<double>(unit), suffix);
  }
  return fmt::format("{}", bytes);
}

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <fstream>
#include <string_view>

namespace penstock::psbench {
namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

Status broken(std::string_view field, std::string_view why) {
  constexpr std::size_t kShown = 40;  // a broken file may be one endless line
  return Status(Code::kInvalidArgument, fmt::format("\"{}\" {}", field.substr(0, kShown), why));
}

template <class T>
bool parse(std::string_view field, T& value) {
  const char* end = field.data() + field.size();
  return std::from_chars(field.data(), end, value) == std::from_chars_result{end, std::errc()};
}

Status append_label(std::string_view field, Dataset& data) {
  std::uint32_t label = 0;
  if (!parse(field, label)) return broken(field, "is not a class; the last column must be 0, 1, …");
  if (label >= kMaxClasses)
    return broken(field, fmt::format("is not a class; the largest is {}", kMaxClasses - 1));
  data.labels.push_back(label);
  data.classes = std::max(data.classes, label + 1);
  return {};
}

Status append_value(std::string_view field, Dataset& data) {
  float value = 0;
  if (!parse(field, value)) return broken(field, "is not a number");
  if (!std::isfinite(value)) return broken(field, "is not finite");
  data.values.push_back(value);
  return {};
}

// One line of text that is not blank.
Status append_row(std::string_view line, Dataset& data) {
  const auto commas = static_cast<std::size_t>(std::count(line.begin(), line.end(), ','));
  if (commas == 0) return broken(line, "has no comma; a row is numbers, then the class");
  if (commas > kMaxFeatures)
    return broken(line, fmt::format("… has more than {} numbers", kMaxFeatures));
  if (data.rows() == 0) data.features = commas;
  if (commas != data.features)
    return Status(Code::kInvalidArgument, fmt::format("{} columns where the first row has {}",
                                                      commas + 1, data.features + 1));
  for (std::size_t i = 0; i < commas; ++i) {
    const std::size_t comma = line.find(',');
    PENSTOCK_RETURN_IF_ERROR(append_value(trimmed(line.substr(0, comma)), data));
    line.remove_prefix(comma + 1);
  }
  return append_label(trimmed(line), data);
}

}  // namespace

Result<Dataset> read_csv(const std::string& path) {
  errno = 0;
  std::ifstream file(path);
  if (!file) return Status::system(fmt::format("cannot open {}", path), errno);
  Dataset data;
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    if (trimmed(line).empty()) continue;
    const Status status = append_row(line, data);
    if (!status.ok())
      return Status(Code::kInvalidArgument, fmt::format("{}:{}: {}", path, number, status.what()));
  }
  if (file.bad()) return Status::system(fmt::format("cannot read {}", path), errno);
  if (data.rows() == 0) return Status(Code::kInvalidArgument, fmt::format("{}: no rows", path));
  return data;
}

void scale_to_unit(Dataset& data) {
  float largest = 0;
  for (const float value : data.values) largest = std::max(largest, std::abs(value));
  if (largest == 0) return;
  for (float& value : data.values) value /= largest;
}

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cli/finding.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>

namespace penstock::cli {

std::string_view level_name(Level level) {
  constexpr std::array<std::string_view, 4> kNames{"ok", "note", "warning", "problem"};
  return kNames[static_cast<std::size_t>(level)];
}

std::string to_text(const Findings& findings) {
  std::size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, finding.id.size());
  std::array<unsigned, 4> counts{};
  std::string text;
  for (const Finding& finding : findings) {
    ++counts[static_cast<std::size_t>(finding.level)];
    fmt::format_to(std::back_inserter(text), "{:<8} {:<{}}  {}\n", level_name(finding.level),
                   finding.id, width, finding.found);
    if (!finding.fix.empty())
      fmt::format_to(std::back_inserter(text), "{:<8} {:<{}}  -> {}\n", "", "", width, finding.fix);
  }
  fmt::format_to(std::back_inserter(text), "{} ok, {} notes, {} warnings, {} problems\n", counts[0],
                 counts[1], counts[2], counts[3]);
  return text;
}

std::string to_json(const Verdict& verdict, const Findings& findings) {
  nlohmann::ordered_json document{{"version", verdict.version},
                                  {"transport", verdict.transport},
                                  {"works", verdict.works},
                                  {"findings", nlohmann::ordered_json::array()}};
  for (const Finding& finding : findings)
    document["findings"].push_back({{"id", finding.id},
                                    {"level", level_name(finding.level)},
                                    {"found", finding.found},
                                    {"fix", finding.fix}});
  // What /sys says need not be UTF-8.
  return document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace penstock::cli

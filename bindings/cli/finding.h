// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One thing penstock doctor found. Values; any thread.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::cli {

enum class Level : std::uint8_t {
  kOk,       // as it should be
  kNote,     // not needed, or could be better
  kWarning,  // costs speed, or will fail under load
  kProblem,  // something that is here does not work
};
std::string_view level_name(Level level);  // "ok", "note", "warning", "problem"

struct Finding {
  std::string id;  // stable, for programs: "limits.memlock", "rdma.mlx5_0:1.mtu"
  Level level = Level::kOk;
  std::string found;  // a sentence
  std::string fix;    // what to do; empty when there is nothing to do
};
using Findings = std::vector<Finding>;

// A line for each finding, and one below with its fix; at the end how many there are of each level.
std::string to_text(const Findings& findings);

// What the command was asked and what came of it.
struct Verdict {
  std::string version;
  std::string transport;  // asked for; "any"
  bool works = false;
};
// {"version", "transport", "works", "findings": [{"id", "level", "found", "fix"}]}; fix may be "".
std::string to_json(const Verdict& verdict, const Findings& findings);

}  // namespace penstock::cli

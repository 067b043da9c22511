// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the JSON reports share.

#include <nlohmann/json.hpp>
#include <string>

#include "bench/psbench/counters.h"
#include "bench/psbench/environment.h"

namespace penstock::psbench {

// {rail: {name: sum}}, zeros included.
nlohmann::ordered_json rails_json(const RailCounters& sums);

// {schema, commit, environment{…}, results}, with a line end.
std::string report_of(const char* schema, const Environment& environment,
                      const nlohmann::ordered_json& results);

}  // namespace penstock::psbench

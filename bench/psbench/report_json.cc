// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/json.h"
#include "bench/psbench/report.h"

namespace penstock::psbench {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Environment& e) {
  return {{"version", e.version},
          {"compiler", e.compiler},
          {"build_type", e.build_type},
          {"sanitizer", e.sanitizer},
          {"hostname", e.hostname},
          {"kernel", e.kernel},
          {"cpu", e.cpu},
          {"cores_online", e.cores_online},
          {"cores_allowed", e.cores_allowed},
          {"numa_nodes", e.numa_nodes},
          {"memory_bytes", e.memory_bytes},
          {"memlock", e.memlock},
          {"transparent_huge_pages", e.transparent_huge_pages},
          {"governor", e.governor},
          {"transport", e.transport}};
}

Json json_of(const RunResult& r) {
  const Figures f = figures_of(r);
  return {
      {"model", r.model},
      {"bytes", r.bytes},
      {"transport", r.transport},
      {"servers", r.servers},
      {"workers", r.workers},
      {"lanes", r.lanes},
      {"optimizer", r.optimizer},
      {"dtype", r.dtype},
      {"codec", r.codec},
      {"pushed_bytes", r.pushed_bytes > 0 ? r.pushed_bytes : r.bytes},
      {"rounds", f.round_us.count},
      {"round_us",
       {{"min", f.round_us.min},
        {"p50", f.round_us.p50},
        {"p99", f.round_us.p99},
        {"max", f.round_us.max}}},
      {"algbw_GBps", f.algbw_GBps},
      {"busbw_GBps", f.busbw_GBps},
      {"ceiling_GBps", r.ceiling_GBps},
      {"efficiency", f.efficiency},
      {"cpu_s_per_GB", f.cpu_s_per_GB},
      {"wrong", r.wrong},
      {"counters",
       {{"workers", rails_json(r.worker_counters)}, {"servers", rails_json(r.server_counters)}}}};
}

}  // namespace

nlohmann::ordered_json rails_json(const RailCounters& sums) {
  Json rails = Json::object();
  for (const auto& [rail, counters] : sums)
    for (const auto& [name, value] : counters) rails[rail][name] = value;
  return rails;
}

std::string report_of(const char* schema, const Environment& environment, const Json& results) {
  const Json report = {{"schema", schema},
                       {"commit", environment.commit},
                       {"environment", json_of(environment)},
                       {"results", results}};
  // A host name may be any bytes; a report must still be written.
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string to_json(const Environment& environment, std::span<const RunResult> results) {
  Json rows = Json::array();
  for (const RunResult& result : results) rows.push_back(json_of(result));
  return report_of(kJsonSchema, environment, rows);
}

}  // namespace penstock::psbench

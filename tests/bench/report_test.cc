// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace penstock::psbench {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

RunResult example() {
  RunResult r;
  r.model = "bert-large";
  r.transport = "tcp";
  r.optimizer = "adamw";
  r.dtype = "bf16";
  r.bytes = 1'000'000'000;
  r.pushed_bytes = 1'000'000'000;
  r.elements = 500'000'000;
  r.servers = 2;
  r.workers = 4;
  r.lanes = 3;
  r.messages_per_round = 1000;
  r.round_us = {500'000, 400'000, 600'000};
  r.ceiling_GBps = 8;
  r.cpu_s = 12;
  add(r.worker_counters, "tcp", std::vector<Counter>{{"bytes_sent", 5}});
  return r;
}

TEST(Figures, FollowTheirDefinitions) {
  const Figures f = figures_of(example());
  EXPECT_DOUBLE_EQ(f.algbw_GBps, 2);  // 1 GB in 0.5 s
  EXPECT_DOUBLE_EQ(f.busbw_GBps, 4);  // 4 workers on 2 servers: each server sees 2 GB
  EXPECT_DOUBLE_EQ(f.wire_Gbps, 32);
  EXPECT_DOUBLE_EQ(f.efficiency, 0.5);
  EXPECT_DOUBLE_EQ(f.messages_per_second, 2000);
  EXPECT_DOUBLE_EQ(f.cpu_s_per_GB, 0.5);  // 12 s for 4 workers · 2 ways · 1 GB · 3 rounds
}

TEST(Figures, BusBandwidthIsAWorkersWhereServersAreMore) {
  RunResult r = example();
  r.servers = 8;
  EXPECT_DOUBLE_EQ(figures_of(r).busbw_GBps, 2);
}

TEST(Figures, OfNothingMeasuredAreZero) {
  RunResult r = example();
  r.round_us.clear();
  const Figures f = figures_of(r);
  EXPECT_EQ(f.algbw_GBps, 0);
  EXPECT_EQ(f.cpu_s_per_GB, 0);
  r = example();
  r.ceiling_GBps = 0;
  EXPECT_EQ(figures_of(r).efficiency, 0);
}

TEST(Table, RowsLineUpWithTheHeaderAndCarryExactBytes) {
  std::istringstream header(table_header());
  std::string first, second;
  std::getline(header, first);
  std::getline(header, second);
  const std::string row = table_row(example());
  for (std::size_t at = second.find('|'); at != std::string::npos; at = second.find('|', at + 1)) {
    EXPECT_EQ(first[at], '|');
    EXPECT_EQ(row[at], '|');
  }
  for (const char* cell : {"bert-large", "953.7M", " 1000000000 ", "adamw", "400000.0", "500000.0",
                           "600000.0", " 2.00 ", " 4.00 ", " 8.00 ", " 50.0 "})
    EXPECT_THAT(row, HasSubstr(cell));
}

TEST(Table, ShowsADashWithoutACeiling) {
  RunResult r = example();
  r.ceiling_GBps = 0;
  EXPECT_THAT(table_row(r), HasSubstr(" - "));
}

TEST(Csv, HasAsManyCellsInEachLine) {
  const std::vector<RunResult> results = {example(), example()};
  std::istringstream text(to_csv(results));
  std::string line;
  std::vector<std::ptrdiff_t> commas;
  while (std::getline(text, line)) commas.push_back(std::count(line.begin(), line.end(), ','));
  EXPECT_THAT(commas, testing::ElementsAre(26, 26, 26));
}

TEST(JsonReport, HasExactlyTheFieldsPromised) {
  const std::vector<RunResult> results = {example()};
  Environment environment;
  environment.commit = "abc";
  const Json report = Json::parse(to_json(environment, results));
  std::vector<std::string> names;
  for (const auto& [name, value] : report.items()) names.push_back(name);
  EXPECT_THAT(names, testing::UnorderedElementsAre("schema", "commit", "environment", "results"));
  EXPECT_EQ(report["commit"], "abc");
  EXPECT_EQ(report["schema"], kJsonSchema);
  EXPECT_EQ(report["results"][0],
            Json::parse(R"({"model": "bert-large", "bytes": 1000000000, "transport": "tcp",
              "servers": 2, "workers": 4, "lanes": 3, "optimizer": "adamw", "dtype": "bf16",
              "codec": "none", "pushed_bytes": 1000000000, "rounds": 3,
              "round_us": {"min": 400000.0, "p50": 500000.0, "p99": 600000.0, "max": 600000.0},
              "algbw_GBps": 2.0, "busbw_GBps": 4.0, "ceiling_GBps": 8.0, "efficiency": 0.5,
              "cpu_s_per_GB": 0.5, "wrong": 0,
              "counters": {"workers": {"tcp": {"bytes_sent": 5}}, "servers": {}}})"));
}

TEST(JsonReport, SurvivesAHostNameThatIsNotText) {
  Environment environment;
  environment.hostname = "\xff\xfe";
  EXPECT_TRUE(Json::accept(to_json(environment, {})));
}

TEST(EnvironmentReport, DescribesThisHost) {
  const Environment e = read_environment();
  EXPECT_GE(e.cores_allowed, 1U);
  EXPECT_GE(e.cores_online, e.cores_allowed);
  EXPECT_GE(e.numa_nodes, 1U);
  EXPECT_GT(e.memory_bytes, 0U);
  for (const std::string* text : {&e.version, &e.commit, &e.compiler, &e.build_type, &e.sanitizer,
                                  &e.hostname, &e.kernel, &e.cpu, &e.memlock})
    EXPECT_FALSE(text->empty());
  EXPECT_THAT(describe(e), HasSubstr(e.kernel));
}

TEST(WriteFile, ReplacesTheFile) {
  const std::string path = testing::TempDir() + "penstock_report_" + std::to_string(getpid());
  ASSERT_TRUE(write_file(path, "a longer text").ok());
  ASSERT_TRUE(write_file(path, "short").ok());
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "short");
  unlink(path.c_str());
}

TEST(WriteFile, NamesThePathAndTheReason) {
  const Status status = write_file("/nonexistent/report.json", "");
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_THAT(status.to_string(), HasSubstr("/nonexistent/report.json"));
  EXPECT_THAT(status.to_string(), HasSubstr("No such file"));
  EXPECT_EQ(write_file("/dev/full", "text").code(), Code::kSystem);
}

}  // namespace
}  // namespace penstock::psbench

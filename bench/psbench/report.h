// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one run measured, and the three ways it is written down. Definitions:
//   S       bytes of one worker's model on the wire, pulled once a round and pushed as well, by a
//           codec in fewer bytes
//   algbw   S / t, t the median round
//   busbw   max(S, W·S/N) / t for W workers and N servers: the bytes through the most loaded
//           process, one direction; push and pull overlap and are not added
//   ceiling what raw TCP streams (or memory) moved per direction, both ways at once, same session
//   cpu     processor seconds of all processes per GB pushed or pulled by all workers
//   (2·W·S·rounds; by a codec less)
// GB = 10⁹ bytes; K, M, G after a size are binary.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/psbench/counters.h"
#include "bench/psbench/environment.h"
#include "bench/psbench/statistics.h"
#include "transport/base/status.h"

namespace penstock::psbench {

struct RunResult {
  std::string model, transport, optimizer, dtype;
  std::string codec = "none";
  std::uint64_t bytes = 0;         // S
  std::uint64_t pushed_bytes = 0;  // by one worker in a round; 0: S
  std::uint64_t elements = 0;      // of one worker's model
  unsigned servers = 1, workers = 1, lanes = 1;
  std::uint64_t messages_per_round = 0;           // writes posted by one worker: slices pushed
  std::vector<double> round_us;                   // one sample per measured round, warm-up left out
  double ceiling_GBps = 0;                        // 0: not measured
  double cpu_s = 0;                               // of all processes, over the measured rounds
  std::uint64_t wrong = 0;                        // elements that were not what they had to be
  RailCounters worker_counters, server_counters;  // of all of them, the whole job
};

// What follows from a result; all 0 when no round was measured.
struct Figures {
  Summary round_us;
  double algbw_GBps = 0, busbw_GBps = 0;
  double wire_Gbps = 0;            // busbw in 10⁹ bits
  double messages_per_second = 0;  // of one worker
  double efficiency = 0;           // busbw / ceiling; 0 without a ceiling
  double cpu_s_per_GB = 0;
};
Figures figures_of(const RunResult& result);

// Two lines of column names, then one line per result; each ends in a newline.
std::string table_header();
std::string table_row(const RunResult& result);

// Every figure, one line per result after a line of names.
std::string to_csv(std::span<const RunResult> results);

// {schema, commit, environment{…}, results:[…]}; field names are stable within kJsonSchema.
inline constexpr const char* kJsonSchema = "penstock-psbench-1";
std::string to_json(const Environment& environment, std::span<const RunResult> results);

// Replaces the file at `path`. kSystem when it cannot be written.
Status write_file(const std::string& path, const std::string& text);

}  // namespace penstock::psbench

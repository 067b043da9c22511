// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the processes of one local run share: the options, and a page in shared memory.

#include <sys/types.h>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/psbench/model.h"
#include "bench/psbench/shared_memory.h"
#include "bindings/cpp/node.h"
#include "engine/protocol/limits.h"
#include "kernels/dtype.h"
#include "kernels/optimizer.h"
#include "transport/control/secret.h"
#include "transport/providers.h"

namespace penstock::psbench {

inline constexpr unsigned kMaxLocalProcesses = 64;

// A job on this host: the scheduler, `servers` and `workers`.
struct LocalJob {
  std::uint32_t servers = 1;
  std::uint32_t workers = 1;
  std::uint32_t lanes = 1;
  std::string transport = "tcp";
  DataOptions data;
  ServerMemory server_memory = ServerMemory::kHost;
  std::uint64_t slice_bytes = kDefaultSliceBytes;
  TimeNs detect_ns = kDefaultDetectNs;
  TimeNs timeout_ns = 60 * kSecond;  // of joining, declaring and of every round
  bool pin = true;
  std::uint16_t port = 0;   // of the scheduler; 0: any
  std::string secret_file;  // empty: a random secret for this run
};

// "2x4": servers x workers. kInvalidArgument says what is wrong with it.
Status parse_local(const std::string& text, LocalJob& job);

// "tcp", "tcp, encrypted": for people.
std::string describe_transport(const LocalJob& job);

// kInvalidArgument when the numbers do not go together.
Status validate(const LocalJob& job);

// Lives in SharedMemory. Worker 0 decides when the run ends: it sets
// `last_round` before it pushes that round, and nobody can finish the round without that push.
struct SharedPage {
  std::atomic<bool> interrupted{false};  // parent → worker 0: Ctrl-C
  std::atomic<std::uint64_t> last_round{UINT64_MAX};
  std::atomic<std::uint64_t> rounds_done{0};  // worker 0, measured ones: for the progress line
  std::atomic<std::uint64_t> phase{0};        // worker 0: see Phase
  std::atomic<double> cpu_s{0};               // worker 0: of all processes, measured rounds only
  std::atomic<std::uint32_t> processes{0};
  std::atomic<pid_t> pids[kMaxLocalProcesses]{};
};

enum class Phase : std::uint64_t {
  kStarting,
  kDeclaring,
  kChecking,
  kWarmingUp,
  kMeasuring,
  kEnding
};

// Processor seconds that the processes of the page have used so far.
double cpu_seconds(const SharedPage& page);

}  // namespace penstock::psbench

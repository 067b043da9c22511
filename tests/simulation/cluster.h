// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A whole job on one thread with a virtual clock over a LoopbackFabric. One seed decides the job's
// shape, every delay, every cut and every death; the same seed replays the same run.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/scheduler/scheduler.h"
#include "engine/server/server.h"
#include "kernels/table.h"
#include "tests/simulation/program.h"
#include "transport/loopback/fabric.h"

namespace penstock::test {

struct Death {
  Role role = Role::kWorker;
  Rank rank = 0;
  TimeNs at_ns = 0;     // virtual
  bool silent = false;  // it freezes; its connections stay open
};

struct ClusterOptions {
  std::uint64_t seed = 1;
  std::uint32_t workers = 2;
  std::uint32_t servers = 2;
  std::uint32_t lanes = 1;
  std::uint64_t slice_bytes = kMinSliceBytes;
  ProgramOptions program;
  FaultPlan faults;
  std::vector<TimeNs> cuts_ns;  // when a random data connection is cut
  std::optional<Death> death;
  TimeNs detect_ns = 3 * kSecond;
  bool gpu = false;  // servers compute on one that is late
};

struct ClusterResult {
  bool finished = false;          // every surviving program ended
  bool started = true;            // all of them had joined
  std::vector<Status> programs;   // [worker]
  std::string audit_error;        // "" when the ledger is clean
  std::uint64_t fingerprint = 0;  // of worker 0's parameters
  TimeNs noticed_after_ns = 0;    // from the death to the last program's end
  TimeNs virtual_ns = 0;
};

ClusterResult run_cluster(const ClusterOptions& options);

}  // namespace penstock::test

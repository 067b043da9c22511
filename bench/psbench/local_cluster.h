// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The processes of a LocalJob: one per role over tcp, one for all over loopback. Started by the
// parent, which stays single-threaded; killed and reaped with this object.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/psbench/session.h"
#include "bindings/cpp/node.h"
#include "bindings/launch/child_process.h"

namespace penstock::psbench {

// What a worker reports to the parent when it ends; text, one line per fact.
struct WorkerReport {
  Status status;
  std::vector<double> round_us;
  std::uint64_t wrong = 0;
  std::string first_wrong;
  std::vector<Counter> counters;  // of its transport
};

struct ServerReport {
  Status status;
  std::uint64_t planned_bytes = 0;   // parameters, state, outgoing copies and slots
  std::uint64_t resident_bytes = 0;  // the process's peak
  std::vector<Counter> counters;     // of its transport
};

struct ClusterReport {
  std::vector<WorkerReport> workers;
  std::vector<ServerReport> servers;
  Status scheduler;
  Status death;  // of the first process that ended without a report: its role and what killed it
};

// What a worker process does once it has joined; leaves the job itself when all went well. Owns the
// buffers it lends: it is created before the worker and destroyed after it.
class WorkerProgram {
 public:
  virtual ~WorkerProgram() = default;
  virtual WorkerReport run(Worker& worker) = 0;
};
using MakeProgram = std::function<std::unique_ptr<WorkerProgram>()>;

// Starts the job, runs a program on every worker, shows `progress` now and then, passes Ctrl-C on
// through the page, and gathers the reports. Errors: kTimeout when `deadline_ns` (SystemClock)
// passes first, whatever keeps the job from starting otherwise. A worker that fails is in the
// report.
Result<ClusterReport> run_local(const LocalJob& job, SharedPage& page,
                                const MakeProgram& make_program,
                                const std::function<void()>& progress, TimeNs deadline_ns);

// The first failure of the report, workers first; OK if none.
Status first_failure(const ClusterReport& report);

}  // namespace penstock::psbench

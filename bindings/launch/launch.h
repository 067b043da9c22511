// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// penstock launch --local: one program as the scheduler, the servers and the workers of a job on
// this host. Every process's exit code counts, and all end by a deadline.

#include <cstdint>
#include <string>
#include <vector>

namespace penstock::launch {

inline constexpr std::uint32_t kMaxProcesses = 1024;  // of one kind; each has three descriptors

struct LaunchOptions {
  std::uint32_t workers = 1;
  std::uint32_t servers = 1;
  std::uint32_t joint = 0;  // processes that are worker and server; then there are no others
  double timeout_s = 600;   // of the whole job
  double grace_s = 10;      // how long the others live on after one has failed
  std::vector<std::string> program;  // and its arguments
};

// What `penstock launch` ends with.
enum LaunchExit : int {
  kLaunchGood = 0,
  kLaunchFailed = 1,       // a process failed
  kLaunchTimeout = 4,      // the job took too long
  kLaunchEnvironment = 5,  // no processes, ports or descriptors to be had
};

// Runs the job: its output goes to ours, each line behind the name of its process; a summary of
// what went wrong to standard error. SIGINT and SIGTERM end the job and return kLaunchFailed.
// Thread: the program's only one (it forks).
LaunchExit run_local(const LaunchOptions& options);

}  // namespace penstock::launch

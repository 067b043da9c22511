// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where and with what a figure was measured. Thread: plain functions and values.

#include <cstdint>
#include <string>

namespace penstock::psbench {

struct Environment {
  std::string version, commit;         // of Penstock; commit "unknown" outside a repository
  std::string compiler, build_type;    //
  std::string sanitizer;               // "none", "address,undefined", …
  std::string hostname, kernel, cpu;   //
  unsigned cores_online = 0;           //
  unsigned cores_allowed = 0;          // by this process's affinity mask
  unsigned numa_nodes = 0;             //
  std::uint64_t memory_bytes = 0;      //
  std::string memlock;                 // the soft limit: "unlimited" or bytes
  std::string transparent_huge_pages;  // "always", "madvise", "never" or "unknown"
  std::string governor;                // cpu frequency governor of the first core, or "unknown"
  std::string transport;               // set by whoever runs: "tcp 127.0.0.1"
};

// Reads it from this host; what cannot be read is "unknown" or 0.
Environment read_environment();

// A few lines for people, each "  name  value\n".
std::string describe(const Environment& environment);

}  // namespace penstock::psbench

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// penstock doctor: what this host has, and how to fix what is missing. Changes nothing.

#include <string>

#include "bindings/cli/finding.h"
#include "bindings/cli/host_tree.h"

namespace penstock::cli {

// What penstock ends with: psbench's numbers.
enum ExitCode : int { kExitGood = 0, kExitEnvironment = 5, kExitUsage = 64 };

struct DoctorOptions {
  std::string transport = "any";
  bool json = false;
};

// Everything /proc and /sys under the tree's root say; nothing else is looked at.
Findings check_host(const HostTree& tree);

// Prints the report of this host. kExitEnvironment when the wanted transport does not work.
ExitCode run_doctor(const DoctorOptions& options);

}  // namespace penstock::cli

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What /proc and /sys say, judged. Each function reads only through the tree it is given.

#include "bindings/cli/finding.h"
#include "bindings/cli/host_tree.h"

namespace penstock::cli {

// limit_findings.cc: limits of this process.
Findings check_memlock(const HostTree& tree);
Findings check_open_files(const HostTree& tree);
Findings check_processors(const HostTree& tree);  // the cpuset and the governors

// memory_findings.cc
Findings check_huge_pages(const HostTree& tree);

// kernel_findings.cc
Findings check_kernel(const HostTree& tree);  // its version
Findings check_fork(const HostTree& tree);    // variables that hide memory from child processes
Findings check_modules(const HostTree& tree);
Findings check_tcp(const HostTree& tree);  // buffer limits, kTLS
Findings check_container(const HostTree& tree);

// Loaded, or built into the kernel, as far as the tree shows it.
bool has_module(const HostTree& tree, const std::string& name);

}  // namespace penstock::cli

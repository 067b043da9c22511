// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// RDMA ports, judged.

#include <span>

#include "bindings/cli/finding.h"
#include "bindings/cli/host_tree.h"
#include "transport/base/status.h"
#include "transport/hardware/rdma_port.h"

namespace penstock::cli {

// Without ports, one finding that says how to get one. The tree tells the kinds of the GIDs and
// which network device is under each.
Findings check_rdma(const Result<std::vector<RdmaPort>>& ports, const HostTree& tree);

}  // namespace penstock::cli

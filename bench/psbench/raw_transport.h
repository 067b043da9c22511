// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bench/psbench/raw.h"
#include "transport/base/status.h"

namespace penstock::psbench {

// Measures and prints what options.transport reaches: a bandwidth and a latency table per
// operation, with perftest's column names, and beside them what perftest, UCX's own program or
// iperf3 reach.
Status print_transport(const RawOptions& options);

}  // namespace penstock::psbench

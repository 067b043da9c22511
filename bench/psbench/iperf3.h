// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/base/status.h"

namespace penstock::psbench {

// What iperf3 moves one way over loopback with so many streams, 10⁹ bytes a second; two seconds.
// kNotFound when it is not installed, kTimeout when it gives no figure within ten seconds.
Result<double> measure_iperf3(unsigned streams);

}  // namespace penstock::psbench

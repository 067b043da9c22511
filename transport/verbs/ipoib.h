// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// InfiniBand's GIDs stand for no IP address, so rdma_cm finds an InfiniBand port by the address of
// the IPoIB interface on it.

#include <string>
#include <vector>

#include "transport/verbs/cm.h"

namespace penstock::verbs {

// The network interfaces (ib0, …) that `root`/sys/class/net says lie on the device's port, sorted.
std::vector<std::string> ipoib_interfaces(const std::string& root, const std::string& device,
                                          int port);

// An address of one of them, IPv4 before IPv6. kNotFound with the way out when none has one.
Result<IpAddress> ipoib_address(const std::string& device, int port);

}  // namespace penstock::verbs

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What RDMA devices this host has, for people and for penstock doctor; needs no header of
// rdma-core.

#include <vector>

#include "transport/base/status.h"
#include "transport/hardware/rdma_port.h"

namespace penstock {

// Every port of every device libibverbs lists; a device that cannot be opened is one entry with its
// trouble. kUnsupported without the libraries, or in a build without verbs.
Result<std::vector<RdmaPort>> list_rdma_ports();

}  // namespace penstock

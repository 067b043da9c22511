// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The network interfaces of this host that tcp can use.

#include <string>
#include <string_view>
#include <vector>

#include "transport/base/status.h"

namespace penstock::nccl {

struct Interface {
  std::string name;     // "eth0"
  std::string address;  // numeric; IPv4 where there is one
  int speed_mbps = 0;   // what the kernel says, else 10,000
};

// "a,b" as {"a", "b"}.
std::vector<std::string> split_names(std::string_view names);

// Those named, in that order; none named: all that are up and lead to other hosts, without the
// bridges of containers and virtual machines, else the loopback. kNotFound for a name without an
// address.
Result<std::vector<Interface>> list_interfaces(const std::vector<std::string>& wanted);

}  // namespace penstock::nccl

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What both the choice of rails (discovery.cc) and the list for people (ports.cc) ask a port, so
// that the list tells what the choice will be.

#include <vector>

#include "transport/hardware/rdma_port.h"
#include "transport/verbs/api.h"

namespace penstock::verbs {

const char* port_state_name(ibv_port_state state);  // "active", "down", …

// Those among the first `table` that are not empty; 64 at most.
std::vector<RdmaGid> read_gids(const VerbsApi& api, ibv_context* context, std::uint8_t port,
                               int table);

// The index of the one connections use: the first that stands for an IPv4 address, which is what
// people write into their configurations, else for an IPv6 one. −1 when there is none.
int choose_gid(const std::vector<RdmaGid>& gids);

// Whether the device registers dma-bufs: what it says to one that cannot be.
DmabufSupport probe_dmabuf(const VerbsApi& api, ibv_pd* domain);

// What list_rdma_ports() of ports.h returns, over this table.
std::vector<RdmaPort> list_ports(const VerbsApi& api);

}  // namespace penstock::verbs

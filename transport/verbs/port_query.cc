// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/port_query.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "transport/hardware/gpu_path.h"
#include "transport/verbs/cm.h"

namespace penstock::verbs {
namespace {

// A device can have a thousand, nearly all empty.
constexpr std::size_t kMostGids = 64;

RdmaGid describe(int index, const ibv_gid& gid) {
  in6_addr bytes{};
  std::memcpy(&bytes, gid.raw, sizeof bytes);
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, &bytes, text.data(), text.size());
  const std::optional<IpAddress> address = address_of_gid(gid);
  return {index, text.data(), address ? address->host() : std::string()};
}

}  // namespace

const char* port_state_name(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "down";
    case IBV_PORT_INIT:
      return "initializing (no subnet manager?)";
    case IBV_PORT_ARMED:
      return "armed";
    case IBV_PORT_ACTIVE:
      return "active";
    default:
      return "in an unknown state";
  }
}

std::vector<RdmaGid> read_gids(const VerbsApi& api, ibv_context* context, std::uint8_t port,
                               int table) {
  constexpr ibv_gid kNone{};
  std::vector<RdmaGid> gids;
  for (int i = 0; i < table && gids.size() < kMostGids; ++i) {
    ibv_gid gid{};
    if (api.ibv_query_gid(context, port, i, &gid) != 0) break;
    if (std::memcmp(&gid, &kNone, sizeof gid) != 0) gids.push_back(describe(i, gid));
  }
  return gids;
}

int choose_gid(const std::vector<RdmaGid>& gids) {
  int best = -1;
  for (const RdmaGid& gid : gids) {
    if (gid.address.find('.') != std::string::npos) return gid.index;
    if (best < 0 && !gid.address.empty()) best = gid.index;
  }
  return best;
}

DmabufSupport probe_dmabuf(const VerbsApi& api, ibv_pd* domain) {
  if (api.ibv_reg_dmabuf_mr == nullptr) return DmabufSupport::kNo;
  ibv_mr* region = api.ibv_reg_dmabuf_mr(domain, 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE);
  if (region == nullptr) return dmabuf_support(errno);
  api.ibv_dereg_mr(region);
  return DmabufSupport::kYes;
}

}  // namespace penstock::verbs

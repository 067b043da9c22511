// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cli/rdma_findings.h"

#include <fmt/format.h>

namespace penstock::cli {
namespace {

// Of InfiniBand and RoCE alike; with less, each packet's cost counts more.
constexpr unsigned kBestMtu = 4096;
// 4096 of payload and the headers of RoCE v2 over IPv6.
constexpr unsigned kEthernetMtu = 4200;

std::string_view link_name(LinkLayer link) {
  if (link == LinkLayer::kInfiniBand) return "InfiniBand";
  return link == LinkLayer::kEthernet ? "Ethernet (RoCE)" : "unknown link layer";
}

std::string gid_attribute(const HostTree& tree, const RdmaPort& port, const char* what, int index) {
  return tree
      .text(fmt::format("/sys/class/infiniband/{}/ports/{}/gid_attrs/{}/{}", port.device, port.port,
                        what, index))
      .value_or(std::string());
}

Finding check_state(const RdmaPort& port, const std::string& id) {
  Finding finding{id, Level::kOk, {}, {}};
  finding.found = fmt::format("port is {}, {}", port.state, link_name(port.link));
  if (port.gigabits_per_second > 0)
    finding.found += fmt::format(", {:g} Gbit/s", port.gigabits_per_second);
  if (port.active) return finding;
  finding.level = Level::kWarning;
  if (port.link == LinkLayer::kInfiniBand)
    finding.fix = port.state == "down" ? "plug in a cable; ibstat shows the port"
                                       : "start a subnet manager (opensm) on the fabric";
  else
    finding.fix = "ip link set <its network device> up, cable, switch; rdma link shows which";
  return finding;
}

Finding check_mtu(const RdmaPort& port, const std::string& id, const std::string& net) {
  Finding finding{id + ".mtu", Level::kOk, {}, {}};
  finding.found = fmt::format("packets carry up to {} bytes (the device could do {})",
                              port.active_mtu_bytes, port.max_mtu_bytes);
  if (port.active_mtu_bytes >= kBestMtu || port.active_mtu_bytes >= port.max_mtu_bytes)
    return finding;
  finding.level = Level::kNote;
  finding.fix = port.link == LinkLayer::kInfiniBand
                    ? "mtu=5 for the partition in the subnet manager's partitions.conf"
                    : fmt::format(
                          "ip link set {} mtu {} (or 9000), on every host and switch of the "
                          "network",
                          net.empty() ? "<its network device>" : net, kEthernetMtu);
  return finding;
}

Finding check_gids(const RdmaPort& port, const std::string& id, const HostTree& tree) {
  Finding finding{id + ".gids", Level::kOk, {}, {}};
  std::string list;
  for (const RdmaGid& gid : port.gids) {
    const std::string kind = gid_attribute(tree, port, "types", gid.index);
    list += fmt::format("{}{}{} {}{}", list.empty() ? "" : ", ",
                        gid.index == port.chosen_gid ? "*" : "", gid.index,
                        gid.address.empty() ? gid.text : gid.address,
                        kind.empty() ? "" : fmt::format(" ({})", kind));
  }
  if (!port.ipoib_address.empty()) {
    finding.found =
        fmt::format("{}; connections use the IPoIB address {}", list, port.ipoib_address);
    return finding;
  }
  if (port.chosen_gid >= 0) {
    finding.found = list + "; * would be used";
    return finding;
  }
  finding.level = Level::kWarning;
  finding.found = (list.empty() ? "no GIDs" : list) +
                  (port.link == LinkLayer::kInfiniBand ? "; no IPoIB interface with an IP address"
                                                       : "; none stands for an IP address");
  finding.fix = port.link == LinkLayer::kInfiniBand
                    ? "modprobe ib_ipoib; ip address add <address>/<prefix> dev ib0"
                    : "ip address add <address>/<prefix> dev <its network device>";
  return finding;
}

void check_port(const RdmaPort& port, const HostTree& tree, Findings& findings) {
  const std::string id = port.port > 0 ? fmt::format("rdma.{}:{}", port.device, port.port)
                                       : fmt::format("rdma.{}", port.device);
  if (!port.trouble.empty()) {
    findings.push_back({id, Level::kProblem, port.trouble,
                        "may this user read and write /dev/infiniband/uverbs*? (group rdma, or "
                        "--device=/dev/infiniband for a container)"});
    return;
  }
  findings.push_back(check_state(port, id));
  if (!port.active) return;
  const int any = port.gids.empty() ? 0 : port.gids.front().index;
  findings.push_back(check_mtu(port, id, gid_attribute(tree, port, "ndevs", any)));
  findings.push_back(check_gids(port, id, tree));
  const bool dmabuf = port.dmabuf == DmabufSupport::kYes;
  findings.push_back({id + ".dmabuf", dmabuf ? Level::kOk : Level::kNote,
                      dmabuf ? "registers dma-buf memory" : "does not register dma-buf memory",
                      ""});
}

}  // namespace

Findings check_rdma(const Result<std::vector<RdmaPort>>& ports, const HostTree& tree) {
  if (!ports.ok()) return {{"rdma", Level::kNote, ports.status().what(), ports.status().hint()}};
  if (ports->empty())
    return {
        {"rdma", Level::kNote, "this host has no RDMA device",
         "with a card: its driver (mlx5_ib, irdma, bnxt_re, …) and modprobe ib_uverbs; without: "
         "soft-RoCE, modprobe rdma_rxe; rdma link add rxe0 type rxe netdev eth0"}};
  Findings findings;
  for (const RdmaPort& port : *ports) check_port(port, tree, findings);
  return findings;
}

}  // namespace penstock::cli

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/ports.h"

#include <array>
#include <cerrno>
#include <memory>

#include "transport/verbs/ipoib.h"
#include "transport/verbs/port_query.h"

namespace penstock {
namespace {

using verbs::VerbsApi;

// The codes are IBTA's, one bit for each rate.
double gigabits_per_second(const ibv_port_attr& port) {
  struct Entry {
    unsigned code;
    double value;
  };
  constexpr std::array kLanes{Entry{1, 1}, Entry{2, 4}, Entry{4, 8}, Entry{8, 12}, Entry{16, 2}};
  constexpr std::array kRates{Entry{1, 2.5}, Entry{2, 5},   Entry{4, 10},  Entry{8, 10},
                              Entry{16, 14}, Entry{32, 25}, Entry{64, 50}, Entry{128, 100}};
  const auto value = [](const auto& table, unsigned code) {
    for (const Entry& entry : table)
      if (entry.code == code) return entry.value;
    return 0.0;
  };
  return value(kLanes, port.active_width) * value(kRates, port.active_speed);
}

unsigned mtu_bytes(ibv_mtu mtu) {
  return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128U << static_cast<unsigned>(mtu) : 0;
}

DmabufSupport probe_dmabuf(const VerbsApi& api, ibv_context* context) {
  ibv_pd* domain = api.ibv_alloc_pd(context);
  if (domain == nullptr) return DmabufSupport::kUnknown;
  const DmabufSupport support = verbs::probe_dmabuf(api, domain);
  api.ibv_dealloc_pd(domain);
  return support;
}

RdmaPort describe_port(const VerbsApi& api, ibv_context* context, const std::string& device,
                       std::uint8_t number) {
  RdmaPort port;
  port.device = device;
  port.port = number;
  ibv_port_attr attributes{};
  if (const int error = api.ibv_query_port(context, number, &attributes); error != 0) {
    port.trouble = Status::system("query the port", error).to_string();
    return port;
  }
  port.active = attributes.state == IBV_PORT_ACTIVE;
  port.state = verbs::port_state_name(attributes.state);
  if (attributes.link_layer == IBV_LINK_LAYER_ETHERNET) port.link = LinkLayer::kEthernet;
  if (attributes.link_layer == IBV_LINK_LAYER_INFINIBAND) port.link = LinkLayer::kInfiniBand;
  port.gigabits_per_second = gigabits_per_second(attributes);
  port.active_mtu_bytes = mtu_bytes(attributes.active_mtu);
  port.max_mtu_bytes = mtu_bytes(attributes.max_mtu);
  port.gids = verbs::read_gids(api, context, number, attributes.gid_tbl_len);
  if (port.link == LinkLayer::kInfiniBand) {
    Result<verbs::IpAddress> address = verbs::ipoib_address(device, number);
    if (address.ok()) port.ipoib_address = address.value().host();
  } else {
    port.chosen_gid = verbs::choose_gid(port.gids);
  }
  port.dmabuf = probe_dmabuf(api, context);
  return port;
}

void describe_device(const VerbsApi& api, ibv_device* device, std::vector<RdmaPort>& ports) {
  RdmaPort trouble;
  trouble.device = api.ibv_get_device_name(device);
  std::unique_ptr<ibv_context, int (*)(ibv_context*)> context(api.ibv_open_device(device),
                                                              api.ibv_close_device);
  ibv_device_attr attributes{};
  int error = context == nullptr ? errno : 0;
  if (context != nullptr) error = api.ibv_query_device(context.get(), &attributes);
  if (error != 0) {
    trouble.trouble = Status::system("open the device", error).to_string();
    ports.push_back(std::move(trouble));
    return;
  }
  for (std::uint8_t i = 1; i <= attributes.phys_port_cnt; ++i)
    ports.push_back(describe_port(api, context.get(), trouble.device, i));
}

}  // namespace

std::vector<RdmaPort> verbs::list_ports(const VerbsApi& api) {
  std::vector<RdmaPort> ports;
  int count = 0;
  ibv_device** list = api.ibv_get_device_list(&count);
  if (list == nullptr) return ports;  // kernels without RDMA have no list at all
  for (int i = 0; i < count; ++i) describe_device(api, list[i], ports);
  api.ibv_free_device_list(list);
  return ports;
}

Result<std::vector<RdmaPort>> list_rdma_ports() {
  PENSTOCK_ASSIGN_OR_RETURN(const VerbsApi* api, verbs::system_verbs());
  return verbs::list_ports(*api);
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Which ports become rails, and why the others do not.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <memory>

#include "transport/verbs/ipoib.h"
#include "transport/verbs/port_query.h"
#include "transport/verbs/rail.h"

namespace penstock::verbs {
namespace {

class DeviceList {
 public:
  explicit DeviceList(const VerbsApi& api) : api_(api), list_(api.ibv_get_device_list(&count_)) {}
  ~DeviceList() {
    if (list_ != nullptr) api_.ibv_free_device_list(list_);
  }
  DeviceList(const DeviceList&) = delete;
  DeviceList& operator=(const DeviceList&) = delete;
  int count() const { return list_ == nullptr ? 0 : count_; }
  ibv_device* operator[](int i) const { return list_[i]; }

 private:
  const VerbsApi& api_;
  int count_ = 0;
  ibv_device** const list_;
};

struct Wanted {
  std::string device;
  int port = 1;
};

Result<Wanted> parse_rail(const std::string& text) {
  Wanted wanted{text};
  const std::size_t colon = text.rfind(':');
  if (colon != std::string::npos) {
    wanted.device = text.substr(0, colon);
    const std::string digits = text.substr(colon + 1);
    if (digits.empty() || digits.size() > 3 ||
        digits.find_first_not_of("0123456789") != std::string::npos)
      return Status(Code::kInvalidArgument, fmt::format("'{}' is no RDMA port", text))
          .with_hint("one looks like mlx5_0 or mlx5_0:1");
    wanted.port = std::stoi(digits);
  }
  return wanted;
}

Result<IpAddress> find_address(const VerbsApi& api, ibv_context* context, const std::string& name,
                               std::uint8_t port, int gid_table, int gid_index) {
  ibv_gid gid{};
  if (gid_index >= 0) {
    const bool there =
        gid_index < gid_table && api.ibv_query_gid(context, port, gid_index, &gid) == 0;
    const std::optional<IpAddress> address = there ? address_of_gid(gid) : std::nullopt;
    if (address) return *address;
    return Status(Code::kNotFound, fmt::format("{}: GID index {} holds no IP address (the table "
                                               "has {} entries)",
                                               name, gid_index, gid_table))
        .with_hint("leave the GID index open, or pick one that show_gids or ibv_devinfo -v lists");
  }
  const int best = choose_gid(read_gids(api, context, port, gid_table));
  if (best >= 0 && api.ibv_query_gid(context, port, best, &gid) == 0)
    if (const std::optional<IpAddress> address = address_of_gid(gid)) return *address;
  return Status(Code::kNotFound, fmt::format("{}: no GID with an IP address", name))
      .with_hint("give the network device under it an address (ip addr add)");
}

Result<std::unique_ptr<Rail>> open_port(const VerbsApi& api, ibv_device* device, int port_number,
                                        int gid_index, std::size_t index, CmChannel& channel) {
  const std::string name = fmt::format("{}:{}", api.ibv_get_device_name(device), port_number);
  std::unique_ptr<ibv_context, int (*)(ibv_context*)> context(api.ibv_open_device(device),
                                                              api.ibv_close_device);
  if (context == nullptr)
    return Status::system(fmt::format("open the RDMA device {}", name), errno)
        .with_hint("may this user read and write /dev/infiniband/uverbs*?");
  ibv_port_attr attributes{};
  const auto port = static_cast<std::uint8_t>(port_number);
  if (const int error = api.ibv_query_port(context.get(), port, &attributes); error != 0)
    return Status(Code::kNotFound, fmt::format("{}: there is no such port", name))
        .with_system(error);
  if (attributes.state != IBV_PORT_ACTIVE)
    return Status(Code::kUnsupported,
                  fmt::format("{}: the port is {}", name, port_state_name(attributes.state)))
        .with_hint("set the link up (ip link set … up, cable, switch), see ibv_devinfo");
  PENSTOCK_ASSIGN_OR_RETURN(
      const IpAddress address,
      attributes.link_layer == IBV_LINK_LAYER_INFINIBAND
          ? ipoib_address(api.ibv_get_device_name(device), port_number)
          : find_address(api, context.get(), name, port, attributes.gid_tbl_len, gid_index));
  return Rail::open(api, context.release(), name, index, port, address, channel);
}

using Rails = std::vector<std::unique_ptr<Rail>>;

Result<Rails> open_named(const VerbsApi& api, const DeviceList& devices,
                         const VerbsOptions& options, CmChannel& channel) {
  Rails rails;
  for (const std::string& text : options.rails) {
    PENSTOCK_ASSIGN_OR_RETURN(const Wanted wanted, parse_rail(text));
    ibv_device* found = nullptr;
    std::vector<std::string> names;
    for (int i = 0; i < devices.count(); ++i) {
      names.emplace_back(api.ibv_get_device_name(devices[i]));
      if (names.back() == wanted.device) found = devices[i];
    }
    if (found == nullptr)
      return Status(Code::kNotFound, fmt::format("no RDMA device is called '{}'", wanted.device))
          .with_hint(fmt::format("here are: {}", fmt::join(names, ", ")));
    PENSTOCK_ASSIGN_OR_RETURN(
        auto rail, open_port(api, found, wanted.port, options.gid_index, rails.size(), channel));
    rails.push_back(std::move(rail));
  }
  return rails;
}

Result<Rails> open_active(const VerbsApi& api, const DeviceList& devices,
                          const VerbsOptions& options, CmChannel& channel) {
  constexpr int kMaxPorts = 4;  // nobody builds more into one device
  Rails rails;
  std::vector<std::string> refusals;
  for (int i = 0; i < devices.count(); ++i) {
    for (int port = 1; port <= kMaxPorts; ++port) {
      auto rail = open_port(api, devices[i], port, options.gid_index, rails.size(), channel);
      if (rail.ok()) {
        rails.push_back(std::move(*rail));
        if (rails.size() == kMaxRails) return rails;
        continue;
      }
      if (port > 1 && rail.status().code() == Code::kNotFound) break;
      refusals.push_back(rail.status().to_string());
    }
  }
  if (!rails.empty()) return rails;
  return Status(Code::kUnsupported,
                fmt::format("no usable RDMA port: {}", fmt::join(refusals, "; ")));
}

}  // namespace

Status require_devices(const VerbsApi& api) {
  if (DeviceList(api).count() > 0) return {};
  return Status(Code::kUnsupported, "this host has no RDMA device")
      .with_hint(
          "rdma link shows them; soft-RoCE makes one: rdma link add rxe0 type rxe netdev eth0");
}

Result<Rails> open_rails(const VerbsApi& api, const VerbsOptions& options, CmChannel& channel) {
  if (options.rails.size() > kMaxRails)
    return Status(Code::kInvalidArgument, fmt::format("{} rails asked for, {} are the most",
                                                      options.rails.size(), kMaxRails));
  const DeviceList devices(api);
  return options.rails.empty() ? open_active(api, devices, options, channel)
                               : open_named(api, devices, options, channel);
}

}  // namespace penstock::verbs

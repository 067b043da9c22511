// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/discovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "bindings/nccl/gpu_reach.h"
#include "bindings/nccl/interfaces.h"
#include "bindings/nccl/log.h"
#include "transport/providers.h"

namespace penstock::nccl {
namespace {

using Devices = std::vector<std::unique_ptr<NetDevice>>;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string pci_path(const std::string& link) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(link, error);
  return error ? "" : path.string();
}

// FNV-1a: the same for the ports of one card.
std::uint64_t name_hash(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

void open_one(PortFacts facts, const DeviceOptions& options, const Clock& clock, Devices& devices,
              std::string& refused) {
  Result<std::unique_ptr<Device>> device = open_device(options, clock);
  if (device.ok()) {
    log_info(fmt::format("{} at {}, {} Mb/s{}", facts.name, (*device)->address(), facts.speed_mbps,
                         facts.reaches_gpus ? ", reaches the memory of every GPU" : ""));
    devices.push_back(std::make_unique<NetDevice>(std::move(facts), std::move(*device), clock));
    return;
  }
  refused +=
      fmt::format("{}{}: {}", refused.empty() ? "" : "; ", facts.name, device.status().to_string());
}

Result<Devices> open_verbs(const Clock& clock) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<RdmaPort> ports, rdma_ports());
  const std::vector<std::string> wanted = split_names(environment("PENSTOCK_NCCL_PORTS"));
  Devices devices;
  std::string refused;
  for (const RdmaPort& port : ports) {
    const std::string name = fmt::format("{}:{}", port.device, port.port);
    const bool named = std::find(wanted.begin(), wanted.end(), name) != wanted.end();
    if (wanted.empty() ? !port.active : !named) continue;
    PortFacts facts{.name = name,
                    .pci_path = pci_path("/sys/class/infiniband/" + port.device + "/device"),
                    .guid = name_hash(port.device),
                    .speed_mbps = static_cast<int>(std::lround(port.gigabits_per_second * 1000)),
                    .port = port.port,
                    .reaches_gpus = reaches_every_gpu(port)};
    DeviceOptions options;
    options.provider = "verbs";
    options.rails = {name};
    open_one(std::move(facts), options, clock, devices, refused);
  }
  if (!devices.empty()) return devices;
  return Status(Code::kUnsupported,
                refused.empty() ? "no RDMA port that is wanted and active" : refused)
      .with_hint("penstock doctor --transport verbs says what each port lacks");
}

Result<Devices> open_tcp(const Clock& clock) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<Interface> interfaces,
                            list_interfaces(split_names(environment("PENSTOCK_NCCL_INTERFACES"))));
  Devices devices;
  std::string refused;
  for (const Interface& interface : interfaces) {
    const std::string folder = "/sys/class/net/" + interface.name;
    PortFacts facts{.name = interface.name,
                    .pci_path = pci_path(folder + "/device"),
                    .guid = name_hash(interface.name),
                    .speed_mbps = interface.speed_mbps};
    DeviceOptions options;
    options.provider = "tcp";
    options.bind_address = interface.address;
    open_one(std::move(facts), options, clock, devices, refused);
  }
  if (!devices.empty()) return devices;
  return Status(Code::kUnsupported, refused);
}

}  // namespace

Result<Devices> open_net_devices(const Clock& clock) {
  const std::string transport = environment("PENSTOCK_NCCL_TRANSPORT");
  if (transport == "verbs") return open_verbs(clock);
  if (transport == "tcp") return open_tcp(clock);
  if (!transport.empty() && transport != "auto")
    return Status(Code::kInvalidArgument,
                  fmt::format("PENSTOCK_NCCL_TRANSPORT={} is no transport", transport))
        .with_hint("set auto, verbs or tcp");
  Result<Devices> devices = open_verbs(clock);
  if (devices.ok()) return devices;
  log_info("tcp, because verbs is not there: " + devices.status().to_string());
  return open_tcp(clock);
}

}  // namespace penstock::nccl

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/providers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "transport/auto/device.h"
#include "transport/shm/device.h"
#include "transport/tcp/device.h"
#include "transport/ucx/device.h"
#include "transport/verbs/device.h"
#include "transport/verbs/ports.h"

namespace penstock {
namespace {

using Opened = Result<std::unique_ptr<Device>>;

Opened open_loopback(const DeviceOptions& options, const Clock& /*clock*/) {
  if (options.fabric == nullptr)
    return Status(Code::kInvalidArgument, "loopback connects nodes of one process only")
        .with_hint("use --transport tcp between processes");
  return options.fabric->create_device(options.incarnation);
}

Opened open_shm(const DeviceOptions& options, const Clock& clock) {
  return open_shm_device({.incarnation = options.incarnation}, clock);
}

Opened open_tcp(const DeviceOptions& options, const Clock& clock) {
  TcpOptions tcp;
  tcp.bind_address = options.bind_address;
  tcp.advertise_host = options.advertise_host;
  tcp.incarnation = options.incarnation;
  return open_tcp_device(tcp, clock);
}

Opened open_verbs(const DeviceOptions& options, const Clock& clock) {
  VerbsOptions verbs;
  verbs.rails = options.rails;
  verbs.gid_index = options.gid_index;
  verbs.incarnation = options.incarnation;
  return open_verbs_device(verbs, clock);
}

Opened open_ucx(const DeviceOptions& options, const Clock& clock) {
  UcxOptions ucx;
  ucx.bind_address = options.bind_address;
  ucx.advertise_host = options.advertise_host;
  ucx.incarnation = options.incarnation;
  return open_ucx_device(ucx, clock);
}

Opened open_auto(const DeviceOptions& options, const Clock& clock);

struct Provider {
  ProviderKind kind;
  Opened (*open)(const DeviceOptions& options, const Clock& clock);
  bool automatic;  // auto takes it when it can be opened
};
// Fastest first: the order in which auto tries them.
constexpr std::array kProviders{
    Provider{ProviderKind::kShm, open_shm, true},
    Provider{ProviderKind::kVerbs, open_verbs, true},
    Provider{ProviderKind::kTcp, open_tcp, true},
    Provider{ProviderKind::kLoopback, open_loopback, false},
    Provider{ProviderKind::kUcx, open_ucx, false},  // trusts its network more than the others do
    Provider{ProviderKind::kAuto, open_auto, false},
};

Opened open_auto(const DeviceOptions& options, const Clock& clock) {
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<RefusedProvider> refused;
  for (const Provider& provider : kProviders) {
    if (!provider.automatic) continue;
    Opened device = provider.open(options, clock);
    if (device.ok())
      devices.push_back(std::move(*device));
    else
      refused.push_back({provider.kind, device.status()});
  }
  if (devices.empty()) return refused.back().reason;
  return create_auto_device(std::move(devices), std::move(refused));
}

}  // namespace

std::vector<std::string> provider_names() {
  std::vector<std::string> names;
  for (const Provider& provider : kProviders) names.emplace_back(provider_name(provider.kind));
  return names;
}

Result<std::unique_ptr<Device>> open_device(const DeviceOptions& options, const Clock& clock) {
  for (const Provider& provider : kProviders)
    if (options.provider == provider_name(provider.kind)) return provider.open(options, clock);
  return Status(Code::kUnsupported, fmt::format("no transport is called '{}'", options.provider))
      .with_hint(fmt::format("known: {}", fmt::join(provider_names(), ", ")));
}

Result<std::vector<RdmaPort>> rdma_ports() { return list_rdma_ports(); }

}  // namespace penstock

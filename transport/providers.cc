// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/providers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
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
  tcp.encrypt = options.data.encrypt;
  tcp.secret = options.secret;
  tcp.tls_offload = options.data.kernel_tls;
  tcp.zerocopy = options.data.zerocopy ? Zerocopy::kAuto : Zerocopy::kOff;
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
  bool clear;      // what it sends to other hosts anybody on the way can read
};
// Fastest first: the order in which auto tries them.
constexpr std::array kProviders{
    Provider{ProviderKind::kShm, open_shm, true, false},  // leaves no host
    Provider{ProviderKind::kVerbs, open_verbs, true, true},
    Provider{ProviderKind::kTcp, open_tcp, true, false},
    Provider{ProviderKind::kLoopback, open_loopback, false, false},  // leaves no process
    Provider{ProviderKind::kUcx, open_ucx, false, true},  // trusts its network more than others do
    Provider{ProviderKind::kAuto, open_auto, false, false},
};

// What `provider` cannot do of what is asked of it.
Status refusal(const Provider& provider, const DataOptions& data) {
  if (!data.encrypt || !provider.clear) return {};
  return Status(Code::kUnsupported, fmt::format("{} does not encrypt what it sends to other hosts",
                                                provider_name(provider.kind)))
      .with_hint("tcp does (--transport tcp or auto), or leave encryption out (--encrypt)");
}

Opened open_auto(const DeviceOptions& options, const Clock& clock) {
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<RefusedProvider> refused;
  for (const Provider& provider : kProviders) {
    if (!provider.automatic) continue;
    const Status refused_for = refusal(provider, options.data);
    Opened device = refused_for.ok() ? provider.open(options, clock) : Opened(refused_for);
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

Status validate(const DataOptions& data, const std::string& provider) {
  if (data.kernel_tls && !data.encrypt)
    return Status(Code::kInvalidArgument, "kernel_tls without anything to encrypt")
        .with_hint("switch encryption on as well (--encrypt)");
  if (data.zerocopy && data.encrypt)
    return Status(Code::kInvalidArgument, "what is encrypted is not sent in place")
        .with_hint("choose --zerocopy or --encrypt, not both");
  for (const Provider& known : kProviders)
    if (provider == provider_name(known.kind)) return refusal(known, data);
  return Status(Code::kUnsupported, fmt::format("no transport is called '{}'", provider))
      .with_hint(fmt::format("known: {}", fmt::join(provider_names(), ", ")));
}

Result<std::unique_ptr<Device>> open_device(const DeviceOptions& options, const Clock& clock) {
  PENSTOCK_RETURN_IF_ERROR(validate(options.data, options.provider));
  if (options.data.encrypt && options.secret.empty())
    return Status(Code::kUnauthenticated, "encrypted data needs the job secret, and there is none")
        .with_hint("name its file (--secret-file), and leave --insecure out");
  const auto provider = std::find_if(
      kProviders.begin(), kProviders.end(),
      [&](const Provider& known) { return options.provider == provider_name(known.kind); });
  return provider->open(options, clock);
}

Result<std::vector<RdmaPort>> rdma_ports() { return list_rdma_ports(); }

}  // namespace penstock

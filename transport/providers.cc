// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/providers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "transport/tcp/device.h"

namespace penstock {

std::vector<std::string> provider_names() { return {"loopback", "tcp"}; }

Result<std::unique_ptr<Device>> open_device(const DeviceOptions& options, const Clock& clock) {
  if (options.provider == "tcp") {
    TcpOptions tcp;
    tcp.bind_address = options.bind_address;
    tcp.advertise_host = options.advertise_host;
    tcp.incarnation = options.incarnation;
    return open_tcp_device(tcp, clock);
  }
  if (options.provider == "loopback") {
    if (options.fabric == nullptr)
      return Status(Code::kInvalidArgument, "loopback connects nodes of one process only")
          .with_hint("use --transport tcp between processes");
    return options.fabric->create_device(options.incarnation);
  }
  return Status(Code::kUnsupported, fmt::format("no transport is called '{}'", options.provider))
      .with_hint(fmt::format("known: {}", fmt::join(provider_names(), ", ")));
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cli/transport_findings.h"

#include <fmt/format.h>

#include "transport/providers.h"

namespace penstock::cli {

TransportReport check_transports(const std::string& wanted) {
  const SystemClock clock;
  LoopbackFabric fabric(clock);
  TransportReport report;
  for (const std::string& name : provider_names()) {
    DeviceOptions options;
    options.provider = name;
    options.incarnation = 1;
    options.fabric = &fabric;
    const Result<std::unique_ptr<Device>> device = open_device(options, clock);
    Finding finding{"transport." + name, Level::kOk, {}, {}};
    if (device.ok()) {
      finding.found = fmt::format("available, {}", (*device)->address());
      const bool leaves_process = (*device)->kind() != ProviderKind::kLoopback;
      report.works |= wanted == name || (wanted == "any" && leaves_process);
    } else {
      const Status status = device.status();
      finding.level = wanted == name ? Level::kProblem : Level::kNote;
      finding.found = status.what();
      if (status.system_error() != 0)
        finding.found = Status::system(status.what(), status.system_error()).to_string();
      finding.fix = status.hint();
    }
    report.findings.push_back(std::move(finding));
  }
  return report;
}

}  // namespace penstock::cli

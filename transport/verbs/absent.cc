// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Instead of everything else here, in builds without rdma-core's headers.
#include "transport/verbs/device.h"
#include "transport/verbs/ports.h"

namespace penstock {
namespace {

Status absent() {
  return Status(Code::kUnsupported, "verbs: not in this build")
      .with_hint("install libibverbs-dev and librdmacm-dev and configure again");
}

}  // namespace

Result<std::unique_ptr<Device>> open_verbs_device(const VerbsOptions& /*options*/,
                                                  const Clock& /*clock*/) {
  return absent();
}

Result<std::vector<RdmaPort>> list_rdma_ports() { return absent(); }

}  // namespace penstock

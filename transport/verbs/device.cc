// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/device.h"

#include "transport/verbs/api.h"

namespace penstock {

Result<std::unique_ptr<Device>> open_verbs_device(const VerbsOptions& /*options*/,
                                                  const Clock& /*clock*/) {
  PENSTOCK_RETURN_IF_ERROR(verbs::system_verbs().status());
  return Status(Code::kUnsupported, "opening an RDMA device: not in this version");
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Instead of everything else here, in builds without UCX's headers.
#include "transport/ucx/device.h"

namespace penstock {

Result<std::unique_ptr<Device>> open_ucx_device(const UcxOptions& /*options*/,
                                                const Clock& /*clock*/) {
  return Status(Code::kUnsupported, "ucx: not in this build")
      .with_hint("install libucx-dev and configure again");
}

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Instead of nccl_loader.cc in a build without NCCL.

#include "bindings/devices/nccl_library.h"

namespace penstock {

Result<NcclLibrary> load_nccl(const char*) {
  return Status(Code::kUnsupported, "no NCCL: this build leaves it out")
      .with_hint("build with -DPENSTOCK_WITH_NCCL=AUTO; it needs nothing of NCCL's then");
}

Result<const NcclLibrary*> system_nccl() { return load_nccl(kNcclFile).status(); }

}  // namespace penstock

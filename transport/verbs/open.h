// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The device over a given table of functions, which outlives it: for tests with a fake NIC. `gpus`:
// those of a fake driver; without, this host's.

#include <optional>

#include "transport/hardware/gpu_host.h"
#include "transport/verbs/api.h"
#include "transport/verbs/device.h"

namespace penstock {

Result<std::unique_ptr<Device>> open_verbs_device(const verbs::VerbsApi& api,
                                                  const VerbsOptions& options, const Clock& clock,
                                                  std::optional<GpuHost> gpus = {});

}  // namespace penstock

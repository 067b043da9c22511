// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The device over a given table of functions, which outlives it: for tests with a fake NIC.

#include "transport/verbs/api.h"
#include "transport/verbs/device.h"

namespace penstock {

Result<std::unique_ptr<Device>> open_verbs_device(const verbs::VerbsApi& api,
                                                  const VerbsOptions& options, const Clock& clock);

}  // namespace penstock

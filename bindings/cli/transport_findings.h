// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which transports can be opened on this host.

#include <string>

#include "bindings/cli/finding.h"

namespace penstock::cli {

struct TransportReport {
  Findings findings;
  bool works = false;  // the wanted one, or any that leaves the process
};

// Opens a device of each transport and closes it again. `wanted`: one of provider_names(), or
// "any".
TransportReport check_transports(const std::string& wanted);

}  // namespace penstock::cli

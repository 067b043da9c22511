// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the plugin says goes to the function NCCL handed to init(), so that it appears where NCCL's
// own lines do and obeys NCCL_DEBUG. Before the first init() it goes nowhere. Any thread.

#include <string>

#include "bindings/nccl/abi.h"
#include "transport/base/status.h"

namespace penstock::nccl {

void log_to(Logger logger);
void log_info(const std::string& line);

// What NCCL is told of a status. One that failed is logged as a warning, with what NCCL asked for.
NcclResult answer(const char* asked, const Status& status);

}  // namespace penstock::nccl

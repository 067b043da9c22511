// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A server of MXNet's KVStore dialect, from start to stop, over ps/ps.h.

#include "transport/base/status.h"

namespace penstock::kvserver {

// Joins as DMLC_ROLE says, a server or the scheduler, and returns when a worker has sent the
// command to stop and everybody has left. kInvalidArgument: another role. kPeerLost: workers are
// gone that a round needs (synchronous), or all of them. What cannot be served ends the process
// with a sentence and exit code 1, because the dialect has no answer that says so.
Status serve();

}  // namespace penstock::kvserver

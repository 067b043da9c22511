// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One NCCL communicator over all GPUs of all workers of a job: worker 0 makes the unique id, the
// scheduler hands it around, every worker connects. For programs that run collectives of their own
// (Paddle's nccl2 mode); such a job needs no servers.
//
//   auto host = system_nccl_host();
//   const std::vector<NcclDevice> gpus{{.ordinal = 0, .stream = stream}};
//   auto all = connect_workers(node->worker(), clock, *host, gpus);
//   ncclAllReduce(…, static_cast<ncclComm_t>((*all)->handle(0)), stream);   // the program's own

#include <memory>
#include <span>

#include "bindings/devices/nccl_communicator.h"
#include "engine/worker/worker.h"

namespace penstock {

// Collective: every worker calls it, with as many GPUs (kMismatch naming both if not). Ranks go by
// worker, then by device. Blocks until all are connected or the worker's call deadline. kPeerLost
// naming a worker that died; where worker 0 cannot make the id, everybody is told why.
Result<std::unique_ptr<NcclCommunicator>> connect_workers(Worker& worker, const Clock& clock,
                                                          const NcclHost& host,
                                                          std::span<const NcclDevice> devices);

}  // namespace penstock

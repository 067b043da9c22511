// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The verbs provider's entrance; needs no header of rdma-core.

#include <memory>
#include <string>
#include <vector>

#include "transport/api/device.h"

namespace penstock {

struct VerbsOptions {
  // "mlx5_0", "mlx5_0:1" (device:port); each is a rail. Empty: every active port, up to kMaxRails.
  std::vector<std::string> rails;
  int gid_index = -1;           // −1: the best RoCE v2 address of each port
  Incarnation incarnation = 0;  // of this process's life; 0 makes one up
  // Longest kSend taken here; a page, as on every transport, which is what a frame of the engine's
  // open messages fills. Each endpoint keeps a ring of this times its receive window; 0 where
  // nobody sends messages.
  std::uint32_t message_bytes = 4096;
};

// kUnsupported when there is no RDMA here (libraries, devices, active ports), saying which and the
// way out.
Result<std::unique_ptr<Device>> open_verbs_device(const VerbsOptions& options, const Clock& clock);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The shm provider: the transport contract between processes of one host, over memory they share.
// Start here; README.md has the map.

#include <memory>

#include "transport/api/device.h"

namespace penstock {

struct CudaDriver;

struct ShmOptions {
  Incarnation incarnation = 0;       // of this process's life; 0 makes one up
  const CudaDriver* cuda = nullptr;  // outlives device and mappings; null: the host's
  bool by_kernel = true;  // peers may copy through the kernel, where the system lets them
};

// Opens the device and starts listening. `clock` outlives it. Errors: kUnsupported where /proc is
// missing, kSystem.
Result<std::unique_ptr<Device>> open_shm_device(const ShmOptions& options, const Clock& clock);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The memory of a GPU server as slabs: host memory that both the transport and the GPU reach, and
// memory of the GPU's own.

#include "engine/gpu/compute_device.h"
#include "engine/runtime/slab_pool.h"

namespace penstock {

// Memory of the transport's choice, registered, and pinned for copies to and from the GPU.
RegionSource pinned_regions(Device& device, ComputeDevice& compute);

// GPU memory that no peer reaches: describe() names no transport.
RegionSource compute_regions(ComputeDevice& compute);

// GPU memory that peers reach, over transports that can.
RegionSource lent_compute_regions(Device& device, ComputeDevice& compute);
// Whether this transport can: kUnsupported says why not.
Status takes_compute_memory(Device& device, ComputeDevice& compute);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// An NVIDIA GPU as a ComputeDevice, through libpenstock_cuda.so, which is loaded when somebody asks
// for one: hosts without CUDA run all the rest.

#include "engine/gpu/compute_device.h"
#include "engine/gpu/cuda_plugin.h"

namespace penstock {

// Loads it from this file. It stays. kNotFound when it is not there or the system cannot load it,
// kUnsupported when it goes with another version of the sources. Any thread.
Result<const PenstockCudaTable*> load_cuda_plugin(const std::string& file);

// Whether the table of this file goes with this code. kUnsupported naming both versions.
Status check_cuda_plugin(const PenstockCudaTable& table, const std::string& file);

// Loads it once: the file that PENSTOCK_CUDA_LIBRARY names, or libpenstock_cuda.so beside this
// code, in the library folder of its installation, or where the system looks.
Result<const PenstockCudaTable*> system_cuda_plugin();

// The GPU of this number as CUDA counts. `plugin` outlives it. kUnsupported without a driver or a
// GPU, kNotFound when there are fewer.
Result<std::unique_ptr<ComputeDevice>> open_cuda_device(const PenstockCudaTable& plugin,
                                                        int ordinal);
// The same with the library of system_cuda_plugin().
Result<std::unique_ptr<ComputeDevice>> open_cuda_device(int ordinal);

}  // namespace penstock

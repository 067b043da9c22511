// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// PENSTOCK_DEVICE stands before functions that GPUs run, too.

#ifdef __CUDACC__
#define PENSTOCK_DEVICE __host__ __device__
#else
#define PENSTOCK_DEVICE
#endif

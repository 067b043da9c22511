// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace penstock::cuda {

struct PassEquality {
  std::uint64_t launches = 0, differing_bytes = 0;
};

// A part of gpu_check: steps of encoded gradients, and the passes, on this GPU against the same
// bodies run by the CPU, which the tests hold against the plain reference.
PassEquality check_passes_equality(bool quick);

// The same for the encoders.
PassEquality check_encoders_equality(bool quick);

// JSON members: the bandwidth of each as a share of `copy` bytes a second.
void print_pass_bandwidth(double copy);

}  // namespace penstock::cuda

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The networks that SteadyState runs over. A program joins one by instantiating the suite.

#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>

#include "tests/engine/hand_job.h"

namespace penstock::test {

struct SteadyNetwork {
  OpenDevice open;  // empty: HandJob's own of that name
  // What the NIC below the provider was asked to register, where that can be seen.
  std::function<std::uint64_t()> registrations = [] { return std::uint64_t{0}; };
};

struct SteadyTransport {
  const char* name;
  bool maps;  // gradients are read where the worker has them
  SteadyNetwork (*make)() = [] { return SteadyNetwork{}; };
};

inline void PrintTo(const SteadyTransport& transport, std::ostream* out) { *out << transport.name; }

class SteadyState : public ::testing::TestWithParam<SteadyTransport> {};

inline std::string name_of_transport(const ::testing::TestParamInfo<SteadyTransport>& info) {
  return info.param.name;
}

}  // namespace penstock::test

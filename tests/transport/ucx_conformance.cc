// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/ucx_harness.h"

namespace penstock::test {
namespace {

struct Transports {
  const char* name;
  const char* list;  // as UcxOptions::transports
};
constexpr Transports kTcp{"tcp", "tcp,self"};
constexpr Transports kShm{"shm", "posix,sysv,cma,self"};

// What of `transports` this host has.
std::vector<Provider> providers_here(std::initializer_list<Transports> transports) {
  std::vector<Provider> found;
  for (const Transports& each : transports) {
    if (!opens(each.list).ok()) continue;
    found.push_back({each.name, [list = each.list] { return std::make_unique<UcxHarness>(list); }});
  }
  return found;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceConformance);
INSTANTIATE_TEST_SUITE_P(Ucx, DeviceConformance, testing::ValuesIn(providers_here({kTcp, kShm})),
                         name_of);

TEST(UcxConformance, RunsOverTcp) {
  const Status status = opens(kTcp.list);
  if (!status.ok()) GTEST_SKIP() << status.to_string();
}

TEST(UcxConformance, RunsOverSharedMemory) {
  const Status status = opens(kShm.list);
  if (!status.ok()) GTEST_SKIP() << status.to_string();
}

}  // namespace
}  // namespace penstock::test

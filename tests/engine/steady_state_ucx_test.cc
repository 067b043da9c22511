// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/engine/steady_state.h"
#include "transport/ucx/device.h"

namespace penstock::test {
namespace {

Status opens() {
  const SystemClock clock;
  return open_ucx_device({}, clock).status();
}

std::vector<SteadyTransport> here() {
  return opens().ok() ? std::vector{SteadyTransport{"ucx", false}} : std::vector<SteadyTransport>();
}

INSTANTIATE_TEST_SUITE_P(Ucx, SteadyState, ::testing::ValuesIn(here()), name_of_transport);

TEST(SteadyStateUcx, Runs) {
  const Status status = opens();
  if (!status.ok()) GTEST_SKIP() << status.to_string();
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/bindings/nccl/driver.h"

namespace penstock::test {
namespace {

TEST_P(NcclNet, CarriesASendIntoAReceive) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen() && pair.connect());
  expect_transfer(pair, 1000);
}

INSTANTIATE_TEST_SUITE_P(V, NcclNet, ::testing::Range(8, 13), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/support/rdma_rails.h"
#include "tests/transport/rc_pair.h"

namespace penstock::test {
namespace {

TEST(Testbed, EachDeviceHasAnActivePort) {
  ASSERT_FALSE(rdma_rails().empty());
  for (const RdmaRail& rail : rdma_rails()) {
    EXPECT_TRUE(port_is_active(rail.device)) << rail.device;
  }
}

TEST(Testbed, AWriteArrivesWithItsImmediate) {
  const std::string address = rdma_rails().at(0).address;
  RcPair pair(address, address);
  EXPECT_EQ(ibv_get_device_name(pair.sender->id->verbs->device), rdma_rails().at(0).device);
  pair.write_and_check(100);
}

TEST(Testbed, AWrongKeyIsRefused) {
  const std::string address = rdma_rails().at(0).address;
  RcPair pair(address, address);
  ibv_dereg_mr(pair.receiver->region);
  ibv_mr stale{};
  pair.receiver->region = &stale;
  pair.receiver->post_empty_receive();
  pair.sender->post_write(*pair.receiver, 1);
  EXPECT_EQ(pair.sender->next_completion().status, IBV_WC_REM_ACCESS_ERR);
  pair.receiver->region = nullptr;
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The two ends of the guest's "pair" network: what is between them really is a cable.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/support/rdma_rails.h"
#include "tests/transport/rc_pair.h"

namespace penstock::test {
namespace {

struct Counters {
  int sent = 0;
  int dropped = 0;
};

class Cable : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(rdma_rails().size(), 2u);
    ASSERT_NE(near().device, far().device);
  }
  // Whatever a test did to the cable, the next one finds it whole.
  void TearDown() override {
    cable("up");
    if (spoiled_) cable("clear");
  }

  static RdmaRail near() { return rdma_rails().at(0); }
  static RdmaRail far() { return rdma_rails().at(1); }

  static void cable(const std::string& words) {
    EXPECT_EQ(std::system(("cable " + words).c_str()), 0) << "cable " << words;
  }
  void spoil(const std::string& how) {
    cable("spoil " + how);
    spoiled_ = true;
  }
  static Counters counters() {
    Counters now;
    FILE* pipe = popen("cable counters", "r");
    if (pipe == nullptr) throw std::runtime_error("cannot run cable");
    const int read = std::fscanf(pipe, "sent %d dropped %d", &now.sent, &now.dropped);
    if (pclose(pipe) != 0 || read != 2) throw std::runtime_error("cable said nothing");
    return now;
  }

 private:
  bool spoiled_ = false;
};

TEST_F(Cable, CarriesWhatOneDeviceWritesToTheOther) {
  spoil("delay 1us");  // netem counts what it lets pass
  RcPair pair(near().address, far().address);
  EXPECT_EQ(ibv_get_device_name(pair.sender->id->verbs->device), near().device);
  EXPECT_EQ(ibv_get_device_name(pair.receiver->id->verbs->device), far().device);
  const Counters before = counters();
  pair.write_and_check(50);
  EXPECT_GE(counters().sent - before.sent, 100);  // 50 writes, 50 acknowledgements
}

TEST_F(Cable, LosesPacketsAndTheDataStaysWhole) {
  RcPair pair(near().address, far().address);
  spoil("loss 5%");
  pair.write_and_check(200);
  EXPECT_GT(counters().dropped, 0);
}

TEST_F(Cable, PulledOutTakesThePortsDownUntilItIsBack) {
  cable("down");
  EXPECT_FALSE(port_is_active(near().device));
  EXPECT_FALSE(port_is_active(far().device));
  cable("up");
  EXPECT_TRUE(port_is_active(near().device));
  RcPair pair(far().address, near().address);
  pair.write_and_check(10);
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Links that go down, and several rails. These tests make and unmake network devices, so they run
// in a soft-RoCE guest only.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/support/rdma_rails.h"
#include "tests/transport/verbs_pair.h"

namespace penstock::test {
namespace {

bool shell(const std::string& command) { return std::system(command.c_str()) == 0; }  // NOLINT

class VerbsRails : public testing::Test {
 protected:
  void SetUp() override {
    if (!rdma_is_soft())
      GTEST_SKIP() << "not in a soft-RoCE guest: this test makes and unmakes links";
    for (const char* rail : {"0", "9"}) {
      const std::string n = rail;
      ASSERT_TRUE(shell("ip link show card" + n + " > /dev/null 2>&1 || (ip link add card" + n +
                        " mtu 4200 type dummy && ip address add 10.77." + n + ".1/24 dev card" + n +
                        " && ip link set card" + n + " up && rdma link add rxe" + n +
                        " type rxe netdev card" + n + ")"));
    }
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_TRUE(shell("ip link set card0 up; ip link set card9 up"));
  }
  const verbs::VerbsApi& api() { return *verbs::system_verbs().value(); }
};

TEST_F(VerbsRails, ADeviceListensOnEachRail) {
  const SystemClock clock;
  const auto device = open_verbs_device(api(), {}, clock).value();
  EXPECT_THAT(device->address(), testing::HasSubstr("10.77.0.1:"));
  EXPECT_THAT(device->address(), testing::HasSubstr("10.77.9.1:"));
}

TEST_F(VerbsRails, ConnectionsSpreadOverTheRails) {
  VerbsPair pair(api());
  std::vector<VerbsPair::Ends> all;
  for (int i = 0; i < 4; ++i) {
    all.push_back(pair.connect());
    ASSERT_TRUE(pair.until([&] { return all.back().connected(); }));
    WorkRequest request;
    request.has_immediate = true;
    ASSERT_TRUE(all.back().a->post(request).ok());
  }
  ASSERT_TRUE(pair.until([&] { return pair.b.events[Event::kImmediate] == 4; }));
  for (const Counter& each : pair.a.device->counters()) {
    if (each.name.ends_with(".posts")) {
      EXPECT_EQ(each.value, 2U) << each.name;
    }
  }
}

TEST_F(VerbsRails, ALinkThatGoesDownEndsItsConnectionsAndTheOthersTakeOver) {
  VerbsPair pair(api());
  const auto first = pair.connect();  // one each
  const auto second = pair.connect();
  ASSERT_TRUE(pair.until([&] { return first.connected() && second.connected(); }));
  ASSERT_TRUE(shell("ip link set card0 down"));
  ASSERT_TRUE(pair.until([&] { return !first.a->connected() || !second.a->connected(); }));
  const Endpoint& hit = first.a->connected() ? *second.a : *first.a;
  const Endpoint& spared = first.a->connected() ? *first.a : *second.a;
  EXPECT_EQ(hit.status().code(), Code::kConnectionLost);
  const TimeNs detected_ns = pair.clock.now_ns();
  const auto again = pair.connect();
  ASSERT_TRUE(pair.until([&] { return again.connected(); }));
  const TimeNs rerouted_us = (pair.clock.now_ns() - detected_ns) / kMicrosecond;
  RecordProperty("rerouted_us", static_cast<int>(rerouted_us));
  EXPECT_GT(rerouted_us, 0);
  EXPECT_TRUE(spared.connected());
  EXPECT_EQ(pair.a.counter("retry_errors"), 0U) << "found out by waiting";
  // The link comes back, and with it the rail.
  ASSERT_TRUE(shell("ip link set card0 up"));
  std::vector<VerbsPair::Ends> more;
  for (int i = 0; i < 3; ++i) {
    more.push_back(pair.connect());
    ASSERT_TRUE(pair.until([&] { return more.back().connected(); }))
        << more.back().a->status().to_string();
  }
  EXPECT_EQ(pair.a.events[Event::kDisconnected], 1) << "only what the link carried was lost";
}

TEST_F(VerbsRails, APortThatIsDownIsNoRail) {
  ASSERT_TRUE(shell("ip link set card0 down"));
  const SystemClock clock;
  const auto named = open_verbs_device(api(), {.rails = {"rxe0"}}, clock);
  EXPECT_THAT(named.status().to_string(), testing::HasSubstr("the port is down"));
  const auto rest = open_verbs_device(api(), {}, clock).value();
  EXPECT_THAT(rest->address(), testing::StartsWith("verbs:10.77.9.1:"));
}

}  // namespace
}  // namespace penstock::test

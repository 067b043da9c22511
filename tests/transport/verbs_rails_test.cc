// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Links that go down, and several rails. These tests make and unmake network devices, so they run
// in the soft-RoCE guest only.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/transport/verbs_pair.h"

namespace penstock::test {
namespace {

bool shell(const char* command) { return std::system(command) == 0; }  // NOLINT: fixed strings

class VerbsRails : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = no_rdma_device(); !why.empty()) GTEST_SKIP() << why;
    if (std::getenv("SOFTROCE_BACKEND") == nullptr ||
        !shell("ip link show dummy0 > /dev/null 2>&1"))
      GTEST_SKIP() << "not in a soft-RoCE guest with network 'one': this test unmakes links";
    ASSERT_TRUE(
        shell("ip link show dummy1 > /dev/null 2>&1 || ("
              "ip link add dummy1 type dummy && ip addr add 10.77.9.1/24 dev dummy1 && "
              "ip link set dummy1 mtu 4200 up && rdma link add rxe9 type rxe netdev dummy1)"));
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_TRUE(shell("ip link set dummy0 up; ip link set dummy1 up"));
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
    if (each.name.ends_with(" posts")) {
      EXPECT_EQ(each.value, 2U) << each.name;
    }
  }
}

TEST_F(VerbsRails, ALinkThatGoesDownEndsItsConnectionsAndTheOthersTakeOver) {
  VerbsPair pair(api());
  const auto first = pair.connect();  // one each
  const auto second = pair.connect();
  ASSERT_TRUE(pair.until([&] { return first.connected() && second.connected(); }));
  ASSERT_TRUE(shell("ip link set dummy0 down"));
  ASSERT_TRUE(pair.until([&] { return !first.a->connected() || !second.a->connected(); }));
  const Endpoint& hit = first.a->connected() ? *second.a : *first.a;
  const Endpoint& spared = first.a->connected() ? *first.a : *second.a;
  EXPECT_EQ(hit.status().code(), Code::kConnectionLost);
  const TimeNs detected_ns = pair.clock.now_ns();
  const auto again = pair.connect();
  ASSERT_TRUE(pair.until([&] { return again.connected(); }));
  RecordProperty("rerouted_us",
                 static_cast<int>((pair.clock.now_ns() - detected_ns) / kMicrosecond));
  EXPECT_TRUE(spared.connected());
  EXPECT_EQ(pair.a.counter("retry_errors"), 0U) << "found out by waiting";
  // The link comes back, and with it the rail.
  ASSERT_TRUE(shell("ip link set dummy0 up"));
  std::vector<VerbsPair::Ends> more;
  for (int i = 0; i < 3; ++i) {
    more.push_back(pair.connect());
    ASSERT_TRUE(pair.until([&] { return more.back().connected(); }))
        << more.back().a->status().to_string();
  }
  EXPECT_EQ(pair.a.events[Event::kDisconnected], 1) << "only what the link carried was lost";
}

TEST_F(VerbsRails, APortThatIsDownIsNoRail) {
  ASSERT_TRUE(shell("ip link set dummy0 down"));
  const SystemClock clock;
  const auto named = open_verbs_device(api(), {.rails = {"rxe0"}}, clock);
  EXPECT_THAT(named.status().to_string(), testing::HasSubstr("the port is down"));
  const auto rest = open_verbs_device(api(), {}, clock).value();
  EXPECT_THAT(rest->address(), testing::StartsWith("verbs:10.77.9.1:"));
}

}  // namespace
}  // namespace penstock::test

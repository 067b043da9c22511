// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Two devices of the verbs provider on one NIC: whose asynchronous events reach whom.

#include <gmock/gmock.h>

#include "tests/transport/verbs_fake_support.h"

namespace penstock::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// rdma_cm's context of a NIC is one for the whole process: whichever device reads its event queue
// must pass on what concerns another's.
TEST(VerbsOnFake, DevicesThatShareANicHearOfTheirOwnQueuePairs) {
  for (const ibv_event_type type :
       {IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR}) {
    for (const int reader : {0, 1}) {
      SCOPED_TRACE(testing::Message() << type << " read by device " << reader);
      FakeDevices devices(FabricOptions{});
      const auto ends = devices.link();
      const auto bystander = devices.link();
      FakeEnd& hit = reader == 0 ? ends.b : ends.a;  // the other's
      devices.fabric.raise_qp_event(hit.qp, type);
      EXPECT_GT(devices.device[reader]->progress(), 0U);
      EXPECT_TRUE(devices.until([&] { return ends.a.disconnected && ends.b.disconnected; }));
      EXPECT_THAT(hit.endpoint->status().to_string(), HasSubstr(" reports: "));
      devices.expect_alive(bystander);
    }
  }
}

TEST(VerbsOnFake, DevicesThatShareANicHearOfTheirOwnQueues) {
  for (const ibv_event_type type : {IBV_EVENT_CQ_ERR, IBV_EVENT_SRQ_ERR}) {
    SCOPED_TRACE(type);
    FakeDevices devices(FabricOptions{});
    const auto ends = devices.link();
    devices.fabric.raise_qp_event(ends.b.qp, type);
    EXPECT_GT(devices.device[0]->progress(), 0U);
    EXPECT_TRUE(devices.until([&] { return ends.a.disconnected && ends.b.disconnected; }));
    EXPECT_THAT(ends.b.endpoint->status().to_string(), HasSubstr(" reports: "));
    EXPECT_THAT(ends.a.endpoint->status().to_string(), Not(HasSubstr(" reports: ")));
  }
}

TEST(VerbsOnFake, DevicesThatShareANicAllHearThatItsPortWentDown) {
  FakeDevices devices(FabricOptions{});
  const auto ends = devices.link();
  devices.fabric.raise_port_event(FabricOptions{}.nics[0].name, 1, IBV_EVENT_PORT_ERR);
  EXPECT_TRUE(devices.until([&] { return ends.a.disconnected && ends.b.disconnected; }));
  for (const FakeEnd* end : {&ends.a, &ends.b})
    EXPECT_THAT(end->endpoint->status().to_string(), HasSubstr("went down"));
  devices.fabric.raise_port_event(FabricOptions{}.nics[0].name, 1, IBV_EVENT_PORT_ACTIVE);
  devices.expect_alive(devices.link());
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/port_query.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/fake_nic/fabric.h"

namespace penstock::test {
namespace {

std::vector<RdmaPort> ports_of(const FakeNicSpec& nic) {
  SystemClock clock;
  FabricOptions options;
  options.nics = {nic};
  const FakeFabric fabric(clock, options);
  return verbs::list_ports(fabric.api());
}

TEST(PortQuery, TellsWhatThePortSays) {
  const FakePort port{.ip = "10.1.2.3", .mtu = IBV_MTU_1024};
  const std::vector<RdmaPort> ports = ports_of({.name = "fake0", .ports = {port}});
  ASSERT_EQ(ports.size(), 1U);
  EXPECT_EQ(ports[0].device, "fake0");
  EXPECT_EQ(ports[0].port, 1);
  EXPECT_EQ(ports[0].trouble, "");
  EXPECT_TRUE(ports[0].active);
  EXPECT_EQ(ports[0].link, LinkLayer::kEthernet);
  EXPECT_EQ(ports[0].gigabits_per_second, 100);
  EXPECT_EQ(ports[0].active_mtu_bytes, 1024U);
  EXPECT_EQ(ports[0].chosen_gid, 1);
}

// The three answers to a dma-buf without a descriptor: it was looked at, the call is unknown to the
// device, and to the library.
TEST(PortQuery, DmabufIsProbedWithoutOne) {
  FakeNicSpec nic{.name = "fake0", .ports = {{.ip = "10.1.2.3"}}, .dmabuf = true};
  EXPECT_EQ(ports_of(nic).at(0).dmabuf, DmabufSupport::kYes);
  nic.dmabuf = false;
  EXPECT_EQ(ports_of(nic).at(0).dmabuf, DmabufSupport::kNo);

  SystemClock clock;
  FabricOptions options;
  options.nics = {nic};
  const FakeFabric fabric(clock, options);
  verbs::VerbsApi old = fabric.api();
  old.ibv_reg_dmabuf_mr = nullptr;
  EXPECT_EQ(verbs::list_ports(old).at(0).dmabuf, DmabufSupport::kNo);
}

TEST(PortQuery, APortThatIsDownOrWithoutAddressIsListed) {
  const std::vector<RdmaPort> ports = ports_of(
      {.name = "fake0",
       .ports = {{.ip = "10.1.2.3", .active = false}, {.ip = "10.1.2.4", .has_gid = false}}});
  ASSERT_EQ(ports.size(), 2U);
  EXPECT_FALSE(ports[0].active);
  EXPECT_EQ(ports[0].state, "down");
  EXPECT_TRUE(ports[1].active);
  EXPECT_EQ(ports[1].chosen_gid, -1);
}

TEST(PortQuery, ADeviceThatDoesNotOpenIsListedWithTheReason) {
  SystemClock clock;
  FabricOptions options;
  options.nics = {{.name = "fake0", .ports = {{.ip = "10.1.2.3"}}}};
  const FakeFabric fabric(clock, options);
  verbs::VerbsApi api = fabric.api();
  api.ibv_open_device = [](ibv_device*) -> ibv_context* {
    errno = EACCES;
    return nullptr;
  };
  const std::vector<RdmaPort> ports = verbs::list_ports(api);
  ASSERT_EQ(ports.size(), 1U);
  EXPECT_EQ(ports[0].port, 0);
  EXPECT_NE(ports[0].trouble.find("Permission denied"), std::string::npos) << ports[0].trouble;
}

TEST(PortQuery, PrefersIpv4ThenTheFirstAddress) {
  EXPECT_EQ(verbs::choose_gid({}), -1);
  EXPECT_EQ(verbs::choose_gid({{0, "fe80::1", ""}}), -1);
  EXPECT_EQ(verbs::choose_gid({{0, "fe80::1", ""}, {2, "fd00::1", "fd00::1"}, {4, "", "fd00::2"}}),
            2);
  EXPECT_EQ(verbs::choose_gid({{2, "", "fd00::1"}, {5, "", "10.0.0.1"}, {6, "", "10.0.0.2"}}), 5);
}

}  // namespace
}  // namespace penstock::test

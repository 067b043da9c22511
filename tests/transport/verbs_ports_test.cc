// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/ports.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/support/rdma_rails.h"
#include "transport/verbs/open.h"

namespace penstock::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(RdmaPorts, DescribeEachDeviceOfTheTestBed) {
  const std::vector<RdmaPort> ports = list_rdma_ports().value();
  ASSERT_FALSE(rdma_rails().empty());
  for (const RdmaRail& rail : rdma_rails()) {
    const auto port = std::find_if(ports.begin(), ports.end(), [&](const RdmaPort& each) {
      return each.device == rail.device && each.active;
    });
    ASSERT_NE(port, ports.end()) << rail.device;
    EXPECT_EQ(port->trouble, "");
    EXPECT_NE(port->link, LinkLayer::kUnknown);
    EXPECT_GT(port->gigabits_per_second, 0);
    EXPECT_GE(port->active_mtu_bytes, 256U);
    EXPECT_LE(port->active_mtu_bytes, port->max_mtu_bytes);
    if (!rdma_is_soft()) continue;
    const auto gid = std::find_if(port->gids.begin(), port->gids.end(), [&](const RdmaGid& each) {
      return each.index == port->chosen_gid;
    });
    ASSERT_NE(gid, port->gids.end());
    EXPECT_EQ(gid->address, rail.address);
  }
}

// What a device without dma-buf answers, for real: the probe must neither fail nor say yes.
TEST(RdmaPorts, SoftRoceRegistersNoDmabuf) {
  if (!rdma_is_soft()) GTEST_SKIP() << "needs soft-RoCE; this is a card";
  const std::vector<RdmaPort> ports = list_rdma_ports().value();
  for (const RdmaPort& port : ports) EXPECT_EQ(port.dmabuf, DmabufSupport::kNo) << port.device;
}

// GPU memory that everything but the card could take: a fake CUDA driver, a PCI tree made up, and
// the card's own answer.
TEST(RdmaPorts, SoftRoceRefusesGpuMemoryInWords) {
  if (!rdma_is_soft()) GTEST_SKIP() << "needs soft-RoCE; this is a card";
  FakeCuda cuda;
  std::vector<std::string> cards;
  for (const RdmaRail& rail : rdma_rails()) cards.push_back(rail.device);
  const GpuHost host = fake_gpu_host(cuda, cards, std::vector(cards.size(), PciDistance::kSwitch));
  const SystemClock clock;
  const auto device = open_verbs_device(*verbs::system_verbs().value(), {}, clock, host).value();
  const Status status =
      device->register_memory(cuda.allocate(100), MemoryKind::kCuda, Access::kRemoteWrite).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(),
              AllOf(HasSubstr("Fake GPU (0000:17:00.0)"), HasSubstr(rdma_rails()[0].device),
                    HasSubstr("the card registers no dma-buf and nvidia_peermem is not loaded"),
                    HasSubstr("pinned host memory")));
}

}  // namespace
}  // namespace penstock::test

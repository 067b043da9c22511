// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "bindings/cli/doctor.h"
#include "bindings/cli/gpu_findings.h"
#include "bindings/cli/rdma_findings.h"
#include "bindings/cli/transport_findings.h"
#include "tests/bindings/fake_tree.h"

namespace penstock::test {
namespace {

using namespace cli;
using testing::HasSubstr;

RdmaPort good_port() {
  return {.device = "mlx5_0",
          .port = 1,
          .trouble = {},
          .active = true,
          .state = "active",
          .link = LinkLayer::kEthernet,
          .gigabits_per_second = 100,
          .active_mtu_bytes = 4096,
          .max_mtu_bytes = 4096,
          .gids = {{0, "fe80::1", ""}, {3, "::ffff:10.0.0.1", "10.0.0.1"}},
          .ipoib_address = {},
          .chosen_gid = 3,
          .dmabuf = DmabufSupport::kYes};
}
Findings check(const RdmaPort& port, const FakeTree& fake = {}) {
  return check_rdma(std::vector<RdmaPort>{port}, fake.tree());
}

TEST(RdmaFindings, AGoodPortIsDescribed) {
  FakeTree fake;
  fake.file("/sys/class/infiniband/mlx5_0/ports/1/gid_attrs/types/3", "RoCE v2\n");
  const Findings findings = check(good_port(), fake);
  for (const Finding& finding : findings) EXPECT_EQ(finding.level, Level::kOk) << finding.found;
  EXPECT_EQ(finding_of(findings, "rdma.mlx5_0:1").found,
            "port is active, Ethernet (RoCE), 100 Gbit/s");
  EXPECT_THAT(finding_of(findings, "rdma.mlx5_0:1.gids").found,
              HasSubstr("0 fe80::1, *3 10.0.0.1 (RoCE v2)"));
}

TEST(RdmaFindings, ASmallMtuComesWithTheCommandForItsLink) {
  RdmaPort port = good_port();
  port.active_mtu_bytes = 1024;
  FakeTree fake;
  fake.file("/sys/class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/0", "ens1\n");
  EXPECT_THAT(finding_of(check(port, fake), "rdma.mlx5_0:1.mtu").fix,
              HasSubstr("ip link set ens1 mtu 4200"));
  port.link = LinkLayer::kInfiniBand;
  EXPECT_THAT(finding_of(check(port, fake), "rdma.mlx5_0:1.mtu").fix, HasSubstr("partitions.conf"));
  port.max_mtu_bytes = 1024;
  EXPECT_EQ(finding_of(check(port, fake), "rdma.mlx5_0:1.mtu").level, Level::kOk);
}

TEST(RdmaFindings, APortThatIsDownSaysNothingElse) {
  RdmaPort port = good_port();
  port.active = false;
  port.state = "down";
  const Findings findings = check(port);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].level, Level::kWarning);
  EXPECT_THAT(findings[0].fix, HasSubstr("ip link set"));
  port.link = LinkLayer::kInfiniBand;
  port.state = "initializing";
  EXPECT_THAT(check(port)[0].fix, HasSubstr("opensm"));
}

TEST(RdmaFindings, WithoutAnIpAddressThereIsNoGidToUse) {
  RdmaPort port = good_port();
  port.gids.pop_back();
  port.chosen_gid = -1;
  const Finding finding = finding_of(check(port), "rdma.mlx5_0:1.gids");
  EXPECT_EQ(finding.level, Level::kWarning);
  EXPECT_THAT(finding.fix, HasSubstr("ip address add"));
}

TEST(RdmaFindings, InfiniBandIsReachedByItsIpoibAddress) {
  RdmaPort port = good_port();
  port.link = LinkLayer::kInfiniBand;
  port.chosen_gid = -1;
  EXPECT_THAT(finding_of(check(port), "rdma.mlx5_0:1.gids").fix, HasSubstr("ib_ipoib"));
  port.ipoib_address = "10.1.0.7";
  const Finding finding = finding_of(check(port), "rdma.mlx5_0:1.gids");
  EXPECT_EQ(finding.level, Level::kOk);
  EXPECT_THAT(finding.found, HasSubstr("10.1.0.7"));
}

TEST(RdmaFindings, ADeviceThatDoesNotOpenIsAProblem) {
  RdmaPort port;
  port.device = "mlx5_0";
  port.trouble = "open the device: Permission denied";
  const Finding finding = finding_of(check(port), "rdma.mlx5_0");
  EXPECT_EQ(finding.level, Level::kProblem);
  EXPECT_THAT(finding.fix, HasSubstr("/dev/infiniband"));
}

TEST(RdmaFindings, NoDeviceAndNoLibraryAreNotes) {
  const FakeTree fake;
  EXPECT_THAT(finding_of(check_rdma(std::vector<RdmaPort>{}, fake.tree()), "rdma").fix,
              HasSubstr("rdma link add"));
  const Status missing = Status(Code::kUnsupported, "no library").with_hint("install it");
  const Finding finding = finding_of(check_rdma(missing, fake.tree()), "rdma");
  EXPECT_EQ(finding.found + ": " + finding.fix, "no library: install it");
}

PciMap one_pair(PciDistance distance) {
  PciMap map;
  map.numa_nodes = 2;
  map.nics.push_back({"0000:18:00.0", "mlx5_0", "ens1", "ConnectX", 0});
  map.gpus.push_back({"0000:17:00.0", "", "", "H100", 0});
  map.distances = {{distance}};
  return map;
}
std::vector<Gpu> one_gpu(bool dmabuf) {
  return {{.ordinal = 0, .name = "H100", .pci = "0000:17:00.0", .dmabuf = dmabuf, .direct = true}};
}
Finding check(bool dmabuf, PciDistance distance, bool peermem) {
  const std::vector<RdmaPort> ports{good_port()};
  return finding_of(check_gpus(one_gpu(dmabuf), one_pair(distance), ports, peermem), "gpu.0");
}

TEST(GpuFindings, NameThePathAndTheCard) {
  EXPECT_THAT(check(true, PciDistance::kSwitch, false).found, HasSubstr("dma-buf to mlx5_0"));
  EXPECT_THAT(check(false, PciDistance::kSwitch, true).found, HasSubstr("peermem to mlx5_0"));
  const Finding staged = check(false, PciDistance::kSwitch, false);
  EXPECT_EQ(staged.level, Level::kNote);
  EXPECT_THAT(staged.fix, HasSubstr("nvidia_peermem"));
  EXPECT_THAT(check(true, PciDistance::kMachine, true).fix, HasSubstr("NUMA node"));
}

TEST(GpuFindings, SayWhatIsNotThere) {
  const FakeTree fake;
  const PciMap none;
  EXPECT_EQ(
      finding_of(check_gpus(Status(Code::kUnsupported, "no NVIDIA driver"), none, {}, false), "gpu")
          .found,
      "no NVIDIA driver");
  EXPECT_THAT(finding_of(check_gpus(one_gpu(true), none, {}, false), "gpu.0").found,
              HasSubstr("no RDMA card"));
}

TEST(PciFindings, TellWhichCardIsNear) {
  const Findings findings = check_pci(one_pair(PciDistance::kHostBridge));
  EXPECT_EQ(finding_of(findings, "numa").found, "2 NUMA nodes");
  EXPECT_THAT(finding_of(findings, "pci.nic.mlx5_0").found, HasSubstr("0000:18:00.0"));
  EXPECT_THAT(finding_of(findings, "pci.gpu.0000:17:00.0").found,
              HasSubstr("nearest card mlx5_0, over the host bridge"));
}

TEST(TransportFindings, TcpWorksAndLoopbackAloneIsNotEnough) {
  EXPECT_TRUE(check_transports("tcp").works);
  EXPECT_TRUE(check_transports("any").works);
  EXPECT_FALSE(check_transports("no such transport").works);
  EXPECT_THAT(finding_of(check_transports("tcp").findings, "transport.tcp").found,
              HasSubstr("tcp:127.0.0.1:"));
}

TEST(Doctor, PrintsJsonThatAProgramCanRead) {
  testing::internal::CaptureStdout();
  const ExitCode code = run_doctor({.transport = "tcp", .json = true});
  const auto report = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  EXPECT_EQ(code, kExitGood);
  EXPECT_EQ(report.at("transport"), "tcp");
  EXPECT_EQ(report.at("works"), true);
  bool memlock = false;
  for (const auto& finding : report.at("findings")) {
    for (const char* key : {"id", "level", "found", "fix"})
      EXPECT_TRUE(finding.at(key).is_string()) << finding;
    memlock |= finding.at("id") == "limits.memlock";
  }
  EXPECT_TRUE(memlock);
}

TEST(Doctor, TextHasTheFixBelowWhatWasFoundAndTheCounts) {
  const std::string text =
      to_text({{"a", Level::kOk, "fine", ""}, {"bb", Level::kWarning, "x", "y"}});
  EXPECT_EQ(text,
            "ok       a   fine\n"
            "warning  bb  x\n"
            "             -> y\n"
            "1 ok, 0 notes, 1 warnings, 0 problems\n");
}

TEST(Doctor, JsonSurvivesBytesThatAreNoText) {
  const std::string json = to_json({}, {{"a", Level::kOk, "\xff\xfe", ""}});
  EXPECT_TRUE(nlohmann::json::accept(json));
}

TEST(NcclFindings, SayTheVersionOrHowToGetIt) {
  NcclLibrary library;
  library.ncclGetVersion = [](int* version) { return *version = 22809, 0; };
  EXPECT_EQ(finding_of(check_nccl(&library), "gpu.nccl").found,
            "NCCL 2.28.9, for workers with several GPUs");
  library.ncclGetVersion = [](int* version) { return *version = 21000, 0; };
  EXPECT_THAT(finding_of(check_nccl(&library), "gpu.nccl").found, HasSubstr("older than 2.14.0"));
  const Findings absent = check_nccl(Status(Code::kUnsupported, "no NCCL").with_hint("install it"));
  EXPECT_EQ(finding_of(absent, "gpu.nccl").level, Level::kNote);
  EXPECT_EQ(finding_of(absent, "gpu.nccl").fix, "install it");
}

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "transport/hardware/cuda_driver.h"
#include "transport/hardware/gpu_path.h"
#include "transport/hardware/pci_map.h"

namespace penstock::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Two packages with a NUMA node each. On the first: a GPU (17:00) and a card (18:00) behind one PCI
// switch and a card (19:00) on the same host bridge; on the second host bridge of the same node a
// card (49:00); on the other node a card (b1:00) and a GPU (b2:00) on one host bridge.
std::string machine() {
  const auto pci = [](const char* busid, const char* type, const char* inner) {
    return std::string("<object type=\"PCIDev\" pci_busid=\"") + busid + "\" pci_type=\"" + type +
           "\" pci_link_speed=\"1\">" + inner + "</object>";
  };
  const auto card = [&](const char* busid, const char* name) {
    return pci(
        busid, "0207 [15b3:1017] [15b3:0006] 00",
        (std::string("<object type=\"OSDev\" name=\"") + name + "\" osdev_type=\"3\"/>").c_str());
  };
  const auto gpu = [&](const char* busid) {
    return pci(busid, "0302 [10de:2330] [10de:16c1] a1", "");
  };
  const auto host = [](const char* buses, const std::string& inner) {
    return std::string("<object type=\"Bridge\" bridge_type=\"0-1\" depth=\"0\" bridge_pci=\"") +
           buses + "\">" + inner + "</object>";
  };
  const auto bridge = [](const char* busid, const char* buses, const std::string& inner) {
    return std::string("<object type=\"Bridge\" bridge_type=\"1-1\" depth=\"1\" bridge_pci=\"") +
           buses + "\" pci_busid=\"" + busid +
           "\" pci_type=\"0604 [1000:c010] [1000:1000] b0\" pci_link_speed=\"1\">" + inner +
           "</object>";
  };
  const auto package = [](int index, const std::string& inner) {
    const std::string bit = index == 0 ? "0x00000001" : "0x00000002";
    const std::string sets = " cpuset=\"" + bit + "\" complete_cpuset=\"" + bit + "\" nodeset=\"" +
                             bit + "\" complete_nodeset=\"" + bit + "\"";
    const std::string number = std::to_string(index);
    return "<object type=\"Package\" os_index=\"" + number + "\"" + sets + " gp_index=\"1" +
           number + "\"><object type=\"NUMANode\" os_index=\"" + number + "\"" + sets +
           " gp_index=\"2" + number +
           "\" local_memory=\"1048576\"/><object type=\"PU\" os_index=\"" + number + "\"" + sets +
           " gp_index=\"3" + number + "\"/>" + inner + "</object>";
  };
  const std::string first =
      host("0000:[16-1a]", bridge("0000:16:00.0", "0000:[17-18]",
                                  gpu("0000:17:00.0") + card("0000:18:00.0", "mlx5_0")) +
                               card("0000:19:00.0", "mlx5_1")) +
      host("0000:[49-49]", card("0000:49:00.0", "mlx5_2"));
  const std::string second =
      host("0000:[b1-b2]", card("0000:b1:00.0", "mlx5_3") + gpu("0000:b2:00.0"));
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE topology SYSTEM "
         "\"hwloc2.dtd\">\n<topology version=\"2.0\"><object type=\"Machine\" os_index=\"0\" "
         "cpuset=\"0x00000003\" complete_cpuset=\"0x00000003\" allowed_cpuset=\"0x00000003\" "
         "nodeset=\"0x00000003\" complete_nodeset=\"0x00000003\" allowed_nodeset=\"0x00000003\" "
         "gp_index=\"1\">" +
         package(0, first) + package(1, second) + "</object></topology>\n";
}

TEST(PciMap, MeasuresByTheNearestCommonAncestor) {
  const Result<PciMap> map = read_pci_map_xml(machine());
  ASSERT_TRUE(map.ok()) << map.status().to_string();
  EXPECT_EQ(map->numa_nodes, 2U);
  std::vector<std::string> cards;
  for (const PciDevice& nic : map->nics) cards.push_back(nic.rdma);
  EXPECT_THAT(cards, ElementsAre("mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"));
  ASSERT_EQ(map->gpus.size(), 2U);
  EXPECT_EQ(map->gpus[0].address, "0000:17:00.0");
  EXPECT_EQ(map->gpus[0].numa_node, 0);
  EXPECT_EQ(map->gpus[1].numa_node, 1);
  EXPECT_THAT(map->distances[0], ElementsAre(PciDistance::kSwitch, PciDistance::kHostBridge,
                                             PciDistance::kNumaNode, PciDistance::kMachine));
  EXPECT_THAT(map->distances[1], ElementsAre(PciDistance::kMachine, PciDistance::kMachine,
                                             PciDistance::kMachine, PciDistance::kHostBridge));
}

TEST(PciMap, TellsTheDistanceOfTwoItNames) {
  const PciMap map = read_pci_map_xml(machine()).value();
  EXPECT_EQ(distance_between(map, "0000:17:00.0", "mlx5_1"), PciDistance::kHostBridge);
  EXPECT_EQ(distance_between(map, "0000:b2:00.0", "mlx5_0"), PciDistance::kMachine);
  EXPECT_EQ(distance_between(map, "0000:18:00.0", "mlx5_0"), std::nullopt) << "a card is no GPU";
  EXPECT_EQ(distance_between(map, "0000:17:00.0", "rxe0"), std::nullopt);
}

TEST(PciMap, RefusesWhatIsNoXml) { EXPECT_FALSE(read_pci_map_xml("<topology").ok()); }

TEST(PciMap, ReadsThisMachine) {
  const Result<PciMap> map = read_pci_map();
  ASSERT_TRUE(map.ok()) << map.status().to_string();
  EXPECT_GE(map->numa_nodes, 1U);
  ASSERT_EQ(map->distances.size(), map->gpus.size());
  for (const auto& row : map->distances) EXPECT_EQ(row.size(), map->nics.size());
}

TEST(ChooseNic, TakesTheNearestAndTurnsAmongEquals) {
  using enum PciDistance;
  EXPECT_EQ(choose_nic(0, {}), -1);
  const std::vector<PciDistance> distinct{kMachine, kHostBridge, kNumaNode};
  EXPECT_EQ(choose_nic(5, distinct), 1);
  const std::vector<PciDistance> equal{kSwitch, kMachine, kSwitch};
  EXPECT_EQ(choose_nic(0, equal), 0);
  EXPECT_EQ(choose_nic(1, equal), 2);
  EXPECT_EQ(choose_nic(2, equal), 0);
}

GpuPath path(bool driver, DmabufSupport nic, bool peermem, PciDistance distance) {
  return choose_gpu_path(
             {.driver_dmabuf = driver, .nic_dmabuf = nic, .peermem = peermem, .distance = distance})
      .path;
}

TEST(GpuPath, PrefersDmabufThenPeermemThenStaging) {
  using enum DmabufSupport;
  using enum PciDistance;
  EXPECT_EQ(path(true, kYes, true, kSwitch), GpuPath::kDmabuf);
  EXPECT_EQ(path(true, kYes, false, kNumaNode), GpuPath::kDmabuf);
  EXPECT_EQ(path(true, kNo, true, kSwitch), GpuPath::kPeermem);
  EXPECT_EQ(path(true, kUnknown, true, kSwitch), GpuPath::kPeermem);
  EXPECT_EQ(path(false, kYes, true, kHostBridge), GpuPath::kPeermem);
  EXPECT_EQ(path(false, kYes, false, kSwitch), GpuPath::kStaging);
  EXPECT_EQ(path(true, kNo, false, kSwitch), GpuPath::kStaging);
  EXPECT_EQ(path(true, kYes, true, kMachine), GpuPath::kStaging);
}

TEST(GpuPath, SaysWhy) {
  EXPECT_THAT(choose_gpu_path({.driver_dmabuf = true,
                               .nic_dmabuf = DmabufSupport::kNo,
                               .peermem = false,
                               .distance = PciDistance::kSwitch})
                  .why,
              HasSubstr("the card registers no dma-buf"));
  EXPECT_THAT(choose_gpu_path({}).why, HasSubstr("NUMA node"));
}

TEST(DmabufSupport, IsReadFromTheAnswerToABadDescriptor) {
  EXPECT_EQ(dmabuf_support(EBADF), DmabufSupport::kYes);
  EXPECT_EQ(dmabuf_support(EOPNOTSUPP), DmabufSupport::kNo);
  EXPECT_EQ(dmabuf_support(EPROTONOSUPPORT), DmabufSupport::kNo);
  EXPECT_EQ(dmabuf_support(ENOMEM), DmabufSupport::kUnknown);
}

// A driver with two GPUs, of which the second exports no dma-buf.
CudaDriver two_gpus() {
  CudaDriver driver;
  driver.cuInit = [](unsigned) { return 0; };
  driver.cuDeviceGetCount = [](int* count) { return *count = 2, 0; };
  driver.cuDeviceGet = [](int* device, int ordinal) { return *device = ordinal + 10, 0; };
  driver.cuDeviceGetName = [](char* name, int, int) { return std::strcpy(name, "H100"), 0; };
  driver.cuDeviceGetPCIBusId = [](char* id, int, int device) {
    return std::strcpy(id, device == 10 ? "0000:1A:00.0" : "0000:1B:00.0"), 0;
  };
  driver.cuDeviceGetAttribute = [](int* value, int attribute, int device) {
    if (attribute == 118 && device == 11) return *value = 200, 0;  // ordered for every GPU
    return *value = attribute == 116 || attribute == 117 || (attribute == 124 && device == 10), 0;
  };
  driver.cuFlushGPUDirectRDMAWrites = [](int, int) { return 0; };
  driver.cuMemGetHandleForAddressRange = [](void*, unsigned long long, std::size_t, int,
                                            unsigned long long) { return 0; };
  return driver;
}

TEST(CudaDriver, ListsWhatTheDriverSays) {
  const std::vector<Gpu> gpus = list_gpus(two_gpus()).value();
  ASSERT_EQ(gpus.size(), 2U);
  EXPECT_EQ(gpus[0].pci, "0000:1a:00.0");
  EXPECT_TRUE(gpus[0].dmabuf);
  EXPECT_FALSE(gpus[1].dmabuf);
  EXPECT_TRUE(gpus[1].direct);
  EXPECT_FALSE(gpus[0].ordered);
  EXPECT_TRUE(gpus[1].ordered);
  EXPECT_TRUE(gpus[0].flushes);
}

TEST(CudaDriver, WithoutTheExportCallThereIsNoDmabuf) {
  CudaDriver driver = two_gpus();
  driver.cuMemGetHandleForAddressRange = nullptr;
  EXPECT_FALSE(list_gpus(driver).value()[0].dmabuf);
  driver.cuFlushGPUDirectRDMAWrites = nullptr;
  EXPECT_FALSE(list_gpus(driver).value()[0].flushes);
}

TEST(CudaDriver, NoDeviceIsNoErrorAndARefusalIs) {
  CudaDriver driver = two_gpus();
  driver.cuInit = [](unsigned) { return 100; };  // CUDA_ERROR_NO_DEVICE
  EXPECT_TRUE(list_gpus(driver).value().empty());
  driver.cuInit = [](unsigned) { return 999; };
  EXPECT_EQ(list_gpus(driver).status().code(), Code::kSystem);
}

TEST(CudaDriver, IsThereOrSaysThatItIsNot) {
  const Result<const CudaDriver*> driver = system_cuda();
  if (driver.ok()) {
    EXPECT_NE((*driver)->cuInit, nullptr);
  } else {
    EXPECT_THAT(driver.status().what(), HasSubstr("libcuda.so.1"));
  }
}

}  // namespace
}  // namespace penstock::test

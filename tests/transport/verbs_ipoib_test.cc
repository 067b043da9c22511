// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Which interface is the one on an InfiniBand port, from made-up /sys trees.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "transport/verbs/ipoib.h"

namespace penstock::verbs {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Ipoib : public testing::Test {
 protected:
  Ipoib() : root_(testing::TempDir() + "ipoib" + std::to_string(::getpid())) {
    std::filesystem::remove_all(root_);
  }
  ~Ipoib() override { std::filesystem::remove_all(root_); }

  void interface(const std::string& name, int type, int dev_port, const std::string& device) {
    const std::filesystem::path path = root_ + "/sys/class/net/" + name;
    std::filesystem::create_directories(path / "device/infiniband" / device);
    std::ofstream(path / "type") << type << '\n';
    std::ofstream(path / "dev_port") << dev_port << '\n';
  }
  const std::string root_;
};

TEST_F(Ipoib, IsFoundByDeviceAndPort) {
  interface("ib0", 32, 0, "mlx5_0");
  interface("ib1", 32, 1, "mlx5_0");
  interface("ib2", 32, 0, "mlx5_1");
  EXPECT_THAT(ipoib_interfaces(root_, "mlx5_0", 1), ElementsAre("ib0"));
  EXPECT_THAT(ipoib_interfaces(root_, "mlx5_0", 2), ElementsAre("ib1"));
  EXPECT_THAT(ipoib_interfaces(root_, "mlx5_1", 1), ElementsAre("ib2"));
  EXPECT_THAT(ipoib_interfaces(root_, "mlx5_2", 1), IsEmpty());
}

TEST_F(Ipoib, AnEthernetInterfaceOfTheCardIsNone) {
  interface("eth0", 1, 0, "mlx5_0");
  EXPECT_THAT(ipoib_interfaces(root_, "mlx5_0", 1), IsEmpty());
}

TEST_F(Ipoib, AHostWithoutInterfacesHasNone) {
  EXPECT_THAT(ipoib_interfaces(root_ + "/nowhere", "mlx5_0", 1), IsEmpty());
}

TEST_F(Ipoib, NoAddressSaysTheWayOut) {
  const Status status = ipoib_address("no_such_device", 1).status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_NE(status.to_string().find("no_such_device:1"), std::string::npos);
  EXPECT_NE(status.hint().find("ib_ipoib"), std::string::npos);
}

}  // namespace
}  // namespace penstock::verbs

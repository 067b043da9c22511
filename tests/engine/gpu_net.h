// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A network of fake cards that reach the memory of a fake GPU.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/support/fake_nic/fabric.h"
#include "transport/verbs/open.h"

namespace penstock::test {

// Every device has the one card of the fabric, so far from the GPU.
struct GpuNet {
  explicit GpuNet(FakeCuda& cuda, PciDistance distance = PciDistance::kSwitch)
      : fabric(clock, specs()) {
    const std::vector<std::string> cards{specs().nics[0].name};
    host = fake_gpu_host(cuda, cards, {distance});
    cuda.on_export = [this](int fd, std::span<std::byte> contents) {
      fabric.add_dmabuf(fd, contents);
    };
  }
  ~GpuNet() {
    EXPECT_EQ(fabric.violations(), "");
    EXPECT_EQ(fabric.leaks(), "");
  }
  static FabricOptions specs() {
    FabricOptions options;
    for (FakeNicSpec& nic : options.nics) nic.dmabuf = true;
    return options;
  }
  Result<std::unique_ptr<Device>> open(Incarnation incarnation) {
    VerbsOptions options;
    options.incarnation = incarnation;
    return open_verbs_device(fabric.api(), options, clock, host);
  }

  SystemClock clock;
  FakeFabric fabric;
  GpuHost host;
};

}  // namespace penstock::test

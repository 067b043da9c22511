// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/transport/conformance.h"
#include "tests/transport/control_conformance.h"
#include "transport/loopback/fabric.h"

namespace penstock::test {
namespace {

// At memory speed, on the system's clock, with threads.
class FastHarness final : public DeviceHarness {
 public:
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    return fabric_.create_device(incarnation);
  }
  void step() override { std::this_thread::yield(); }
  std::string leaks() const override {
    return fabric_.live_regions() + fabric_.live_endpoints() + fabric_.pending_ops() == 0
               ? ""
               : "regions, endpoints or posts";
  }

 private:
  SystemClock clock_;
  LoopbackFabric fabric_{clock_};
};

INSTANTIATE_TEST_SUITE_P(Loopback, DeviceConformance,
                         testing::Values(Provider{"fast",
                                                  [] { return std::make_unique<FastHarness>(); }}));

class FastControlHarness final : public ControlHarness {
 public:
  const Clock& clock() const override { return clock_; }
  std::unique_ptr<ControlHub> create_hub() override { return fabric_.create_hub(); }
  void step() override { std::this_thread::yield(); }

 private:
  SystemClock clock_;
  LoopbackFabric fabric_{clock_};
};

INSTANTIATE_TEST_SUITE_P(Loopback, ControlConformance,
                         testing::Values(ControlProvider{
                             "fast", [] { return std::make_unique<FastControlHarness>(); }}));

}  // namespace
}  // namespace penstock::test

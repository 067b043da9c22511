// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
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

class FastControlHarness final : public ControlHarness {
 public:
  const Clock& clock() const override { return clock_; }
  std::unique_ptr<ControlHub> create_hub() override { return fabric_.create_hub(); }
  void step() override { std::this_thread::yield(); }

 private:
  SystemClock clock_;
  LoopbackFabric fabric_{clock_};
};

// Everything is an event on a virtual clock: random delays, no faults.
FaultPlan delays_only() {
  FaultPlan plan;
  plan.seed = 0x5eed;
  plan.data = {1 * kMicrosecond, 40 * kMicrosecond};
  plan.control = {5 * kMicrosecond, 90 * kMicrosecond};
  plan.spike_per_million = 10'000;
  plan.spike_ns = kMillisecond;
  return plan;
}

void advance(ManualClock& clock, LoopbackFabric& fabric) {
  const TimeNs until_event_ns = fabric.next_event_ns() - clock.now_ns();
  clock.advance(std::clamp<TimeNs>(until_event_ns, 1, kMillisecond));
  fabric.step();
}

class DelayedHarness final : public DeviceHarness {
 public:
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    return fabric_.create_device(incarnation);
  }
  void step() override { advance(clock_, fabric_); }
  bool threads() const override { return false; }

 private:
  ManualClock clock_;
  LoopbackFabric fabric_{clock_, delays_only()};
};

class DelayedControlHarness final : public ControlHarness {
 public:
  const Clock& clock() const override { return clock_; }
  std::unique_ptr<ControlHub> create_hub() override { return fabric_.create_hub(); }
  void step() override { advance(clock_, fabric_); }
  bool threads() const override { return false; }

 private:
  ManualClock clock_;
  LoopbackFabric fabric_{clock_, delays_only()};
};

INSTANTIATE_TEST_SUITE_P(
    Loopback, DeviceConformance,
    testing::Values(Provider{"fast", [] { return std::make_unique<FastHarness>(); }},
                    Provider{"delayed", [] { return std::make_unique<DelayedHarness>(); }}),
    name_of);
INSTANTIATE_TEST_SUITE_P(
    Loopback, ControlConformance,
    testing::Values(ControlProvider{"fast", [] { return std::make_unique<FastControlHarness>(); }},
                    ControlProvider{"delayed",
                                    [] { return std::make_unique<DelayedControlHarness>(); }}),
    control_name_of);

}  // namespace
}  // namespace penstock::test

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/fake_nic/fabric.h"
#include "tests/transport/conformance.h"
#include "transport/verbs/open.h"

namespace penstock::test {

// Devices of the verbs provider over a fake NIC. A violation counts as a leak: no test may cause
// one.
class FakeVerbsHarness : public DeviceHarness {
 public:
  explicit FakeVerbsHarness(FabricOptions options = {}) : fabric_(clock_, std::move(options)) {}
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    VerbsOptions options;
    options.incarnation = incarnation;
    return open_verbs_device(fabric_.api(), options, clock_);
  }
  void step() override {}  // every call has done all there is to do
  bool tells_stale_from_access() const override { return false; }  // one status for both
  std::string leaks() const override { return fabric_.violations() + fabric_.leaks(); }
  FakeFabric& fabric() { return fabric_; }

 private:
  SystemClock clock_;
  FakeFabric fabric_;
};

// One piece of work at a time, in seeded order, on a clock that moves only when nothing else can.
class SteppedVerbsHarness final : public DeviceHarness {
 public:
  explicit SteppedVerbsHarness(std::uint64_t seed, std::vector<FakeNicSpec> nics = one_nic())
      : fabric_(clock_, {.mode = FakeMode::kStepped, .seed = seed, .nics = std::move(nics)}) {}
  static std::vector<FakeNicSpec> one_nic() { return FabricOptions{}.nics; }
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    VerbsOptions options;
    options.incarnation = incarnation;
    return open_verbs_device(fabric_.api(), options, clock_);
  }
  void step() override {
    if (fabric_.step()) return;
    const TimeNs left_ns = fabric_.next_timer_ns() - clock_.now_ns();
    clock_.advance(std::clamp<TimeNs>(left_ns, 1, kMillisecond));
  }
  bool threads() const override { return false; }
  bool tells_stale_from_access() const override { return false; }
  std::string leaks() const override { return fabric_.violations() + fabric_.leaks(); }
  FakeFabric& fabric() { return fabric_; }

 private:
  ManualClock clock_;
  FakeFabric fabric_;
};

}  // namespace penstock::test

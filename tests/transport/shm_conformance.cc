// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/transport/conformance.h"
#include "transport/shm/device.h"

namespace penstock::test {
namespace {

// On the system's clock, with threads; over memory the device gave, which peers map, or over this
// process's own, which is copied twice.
class ShmHarness final : public DeviceHarness {
 public:
  explicit ShmHarness(bool allocates) : allocates_(allocates) {}
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    return open_shm_device({.incarnation = incarnation}, clock_);
  }
  void step() override { std::this_thread::yield(); }
  bool allocates() const override { return allocates_; }

 private:
  const bool allocates_;
  SystemClock clock_;
};

INSTANTIATE_TEST_SUITE_P(
    Shm, DeviceConformance,
    testing::Values(Provider{"in_place", [] { return std::make_unique<ShmHarness>(true); }},
                    Provider{"copied_twice", [] { return std::make_unique<ShmHarness>(false); }}),
    name_of);

}  // namespace
}  // namespace penstock::test

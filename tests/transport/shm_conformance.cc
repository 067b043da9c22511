// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/transport/conformance.h"
#include "transport/shm/device.h"

namespace penstock::test {
namespace {

// On the system's clock, with threads; over memory the device gave, which peers map, or over this
// process's own, which is copied by the kernel or twice.
class ShmHarness final : public DeviceHarness {
 public:
  ShmHarness(bool allocates, bool by_kernel) : allocates_(allocates), by_kernel_(by_kernel) {}
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    return open_shm_device({.incarnation = incarnation, .by_kernel = by_kernel_}, clock_);
  }
  void step() override { std::this_thread::yield(); }
  bool allocates() const override { return allocates_; }

 private:
  const bool allocates_, by_kernel_;
  SystemClock clock_;
};

INSTANTIATE_TEST_SUITE_P(
    Shm, DeviceConformance,
    testing::Values(Provider{"in_place", [] { return std::make_unique<ShmHarness>(true, false); }},
                    Provider{"by_kernel", [] { return std::make_unique<ShmHarness>(false, true); }},
                    Provider{"copied_twice",
                             [] { return std::make_unique<ShmHarness>(false, false); }}),
    name_of);

}  // namespace
}  // namespace penstock::test

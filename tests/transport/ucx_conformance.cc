// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/transport/conformance.h"
#include "transport/ucx/device.h"

namespace penstock::test {
namespace {

// On this host, over the given transports of UCX, on the system's clock, with threads.
class UcxHarness final : public DeviceHarness {
 public:
  explicit UcxHarness(const char* transports) : transports_(transports) {}

  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    // A wrong token is refused when the acceptor's time to come is over: shorter than a user's.
    return open_ucx_device({.advertise_host = {},
                            .transports = transports_,
                            .incarnation = incarnation,
                            .hello_timeout_ns = 500 * kMillisecond},
                           clock_);
  }
  void step() override { std::this_thread::yield(); }

 private:
  const char* const transports_;
  SystemClock clock_;
};

Provider over(const char* name, const char* transports) {
  return {name, [transports] { return std::make_unique<UcxHarness>(transports); }};
}

INSTANTIATE_TEST_SUITE_P(UcxTcp, DeviceConformance, testing::Values(over("tcp", "tcp,self")),
                         name_of);
INSTANTIATE_TEST_SUITE_P(UcxShm, DeviceConformance,
                         testing::Values(over("shm", "posix,sysv,cma,self")), name_of);

}  // namespace
}  // namespace penstock::test
